from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from zoo.small_models import ResidualNet, TextEncoder, randomised, token_ids

from tailorbird.errors import InputShapeError, UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    return elastic(randomised(ResidualNet()), (torch.randn(1, 3, 16, 16),))


def test_the_users_model_is_left_as_it_was() -> None:
    model = randomised(ResidualNet()).train()
    before = copy.deepcopy(model.state_dict())
    net = elastic(model, (torch.randn(2, 3, 16, 16),))
    assert model.training
    assert not net.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_state_dict_loads_into_the_users_class(net: SuperNet) -> None:
    fresh = ResidualNet()
    assert fresh.load_state_dict(net.state_dict()).missing_keys == []
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(fresh.eval()(x), net(x))


def test_report_names_what_is_elastic_and_what_is_pinned(net: SuperNet) -> None:
    text = net.report.render()
    data = json.loads(net.report.to_json())
    assert "layer2.0.conv1" in text
    assert "an output of the network" in text
    assert {p["name"]: p["reason"] for p in data["pinned"]}["fc.weight[0]"] == "an output of the network"
    assert data["subnets"] == net.space.size
    assert data["macs_full"] == net.macs()
    assert data["params_full"] == sum(p.numel() for p in ResidualNet().parameters())
    assert 0.99 < net.elastic_fraction <= 1


def test_outputs_may_be_a_dict_and_inputs_several() -> None:
    net = elastic(TextEncoder(), token_ids(1))
    answer = net(*token_ids(4), config=net.space.smallest())
    assert answer["logits"].shape == (4, 3)


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.randn(2, 4, 16, 16),),
        (torch.randn(3, 16, 16),),
        (torch.randn(2, 3, 16, 16).double(),),
        (),
    ],
    ids=["channels", "rank", "dtype", "count"],
)
def test_inputs_that_do_not_fit_are_refused_before_anything_runs(net: SuperNet, inputs: tuple[Tensor, ...]) -> None:
    with pytest.raises(InputShapeError) as caught:
        net(*inputs)
    assert caught.value.fix


def test_inputs_of_different_batch_sizes_are_refused() -> None:
    net = elastic(TextEncoder(), token_ids(1))
    with pytest.raises(InputShapeError, match="batch"):
        net(token_ids(2)[0], token_ids(3)[1])


def test_example_inputs_that_do_not_run_are_refused() -> None:
    with pytest.raises(InputShapeError, match="does not run"):
        elastic(ResidualNet(), (torch.randn(1, 5, 16, 16),))
    with pytest.raises(InputShapeError, match="tuple of tensors"):
        elastic(ResidualNet(), torch.randn(1, 3, 16, 16))  # type: ignore[arg-type]


def test_a_network_bound_to_its_batch_is_elastic_at_that_batch_alone() -> None:
    class Bound(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 16), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.relu(self.first(x)).reshape(1, 32))

    net = elastic(Bound(), (torch.randn(2, 6),), divisor=4)
    assert not net.report.any_batch
    assert "batch size only" in net.report.notes[0]
    assert net(torch.randn(2, 6), config=net.space.smallest()).shape == (1, 3)
    with pytest.raises(InputShapeError):
        net(torch.randn(3, 6))


def test_an_unknown_configuration_is_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError):
        net(torch.randn(1, 3, 16, 16), config=Config.of({"fc": 3}))


def test_dropout_drops_in_train_mode_only() -> None:
    model = nn.Sequential(nn.Linear(8, 64), nn.Dropout(0.5), nn.Linear(64, 4))
    net = elastic(model, (torch.randn(1, 8),))
    x = torch.randn(5, 8)
    config = net.space.smallest()
    assert torch.equal(net(x, config=config), net(x, config=config))
    net.train()
    assert not torch.equal(net(x, config=config), net(x, config=config))


def test_extracted_subnets_own_their_weights(net: SuperNet) -> None:
    config = net.space.sample(1)
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = net(x, config=config)
        sub = net.extract(config)
        for parameter in sub.parameters():
            parameter.zero_()
        assert torch.equal(net(x, config=config), before)
    assert all(p.requires_grad for p in sub.parameters())
    assert not [node for node in sub.graph.nodes if "val" in node.meta], "sizes recorded at the full width are stale"
    assert {n for n, _ in sub.named_parameters()} <= {n for n, _ in ResidualNet().named_parameters()}


def test_groups_left_out_are_reported_with_the_reason() -> None:
    net = elastic(ResidualNet(), (torch.randn(1, 3, 16, 16),), freeze=["layer1*"])
    assert {p.name: p.op for p in net.report.pinned}["layer1.0.conv1"] == "options"


def test_a_copy_computes_the_same_and_has_weights_of_its_own(net: SuperNet) -> None:
    twin, x, config = copy.deepcopy(net), torch.randn(2, 3, 16, 16), net.space.smallest()
    with torch.no_grad():
        before = net(x, config=config)
        assert torch.equal(twin(x, config=config), before)
        assert torch.equal(twin.extract(config)(x), before)
        next(twin.parameters()).zero_()
        assert torch.equal(net(x, config=config), before)
        assert not torch.equal(twin(x, config=config), before)


class PerSample(nn.Module):
    """Computes with the size of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.first(x)) * x.shape[0]
        return y


def test_a_subnet_that_holds_its_batch_size_refuses_others() -> None:
    net = elastic(PerSample(), (torch.randn(2, 8),), divisor=1)
    x, config = torch.randn(5, 8), net.space.smallest()
    assert not net.report.any_batch
    with pytest.raises(InputShapeError, match="extracted for inputs of batch 2") as caught:
        net.extract(config)(x)
    assert "net.extract(config, example)" in caught.value.fix
    subnet = net.extract(config, (x,))
    with torch.no_grad():
        assert torch.equal(subnet(x), net(x, config=config))
    again = torch.export.export(subnet, (x,), strict=False).module()
    with torch.no_grad():
        assert torch.equal(again(x), subnet(x))
