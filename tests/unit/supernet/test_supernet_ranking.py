from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from zoo.small_models import ResidualNet, VisionTransformer, randomised

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.loader import read
from tailorbird.types import Config

X = torch.randn(1, 3, 16, 16)


def images(batches: int = 2, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(4, 3, 16, 16, generator=draw), torch.randint(0, 10, (4,), generator=draw)) for _ in range(batches)
    ]


@pytest.fixture
def net() -> SuperNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return elastic(randomised(ResidualNet()), (X,))


class Two(nn.Module):
    """Four hidden units, each with a reason of its own to be kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 4, bias=False), nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[3.0, 0.0], [2.0, 2.0], [0.0, 100.0], [1.0, 0.0]]))
            self.second.weight.copy_(torch.tensor([[1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 0.0, -9.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_norms_of_the_weights() -> None:
    two = elastic(Two(), (torch.ones(1, 2),), importance="l1")
    ones = two.orders["first"]
    two.rank("l2")
    twos = two.orders["first"]
    assert ones[0] == twos[0] == 2
    assert sorted(ones.tolist()) == sorted(twos.tolist()) == [0, 1, 2, 3]
    l1 = torch.tensor([3.0, 4.0, 100.0, 1.0]) / 27 + torch.tensor([2.0, 2.0, 0.0, 11.0]) / 3.75
    assert ones.tolist() == l1.argsort(descending=True).tolist()


def test_taylor_ranks_by_what_the_loss_would_change() -> None:
    net = elastic(Two(), (torch.ones(1, 2),))
    data = [(torch.tensor([[1.0, 0.0]]), torch.tensor([0])), (torch.tensor([[2.0, 0.0]]), torch.tensor([1]))]
    expected = torch.zeros(4)
    for x, y in data:
        model = Two()
        nn.functional.cross_entropy(model(x), y).backward()
        expected += (model.first.weight * model.first.weight.grad).abs().sum(1)
        expected += (model.second.weight * model.second.weight.grad).abs().sum(0)
    net.rank("taylor", data)
    assert net.orders["first"].tolist() == expected.argsort(descending=True).tolist()
    assert net.orders["first"][-1] == 2, "the unit with the largest weights plays no part"
    before = net.orders["first"]
    net.rank("taylor", data, loss=lambda scores, labels: scores[:, 0].sum() + 0 * labels.sum())
    assert before[0] == 3
    assert net.orders["first"][0] == 0


def test_activations_rank_by_what_flows_on_the_data() -> None:
    net = elastic(Two(), (torch.ones(1, 2),), importance="activation", calibration=[torch.tensor([[1.0, 0.0]])])
    assert net.orders["first"].tolist() == [0, 1, 3, 2]


@pytest.mark.parametrize("criterion", ["l1", "taylor", "activation"])
def test_whatever_ranks_the_channels_subnets_stay_exact_and_nest(net: SuperNet, criterion: str) -> None:
    net.recalibrate(net.space.smallest(), images())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.rank(criterion, images())
    assert net.recalibrated() == []
    assert net.options.importance == criterion
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    x, model = images()[0][0], ResidualNet().eval()
    model.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
        for seed in range(3):
            config = net.space.sample(seed)
            assert torch.equal(net(x, config=config), net.extract(config)(x))
    for dimension in net.space.width:
        assert sorted(net.orders[dimension.name].tolist()) == list(range(dimension.size))


def test_another_ranking_changes_subnets_that_were_run_before(net: SuperNet) -> None:
    config, x = Config.of({"layer2.0.conv1": 8}), images()[0][0]
    with torch.no_grad():
        before = net(x, config=config)
        net.orders["layer2.0.conv1"] = net.orders["layer2.0.conv1"].flip(0)
        net.rank("taylor", images())
        after = net(x, config=config)
        assert torch.equal(after, net.extract(config)(x))
    assert not torch.equal(before, after)


def test_heads_are_ranked_by_data_too() -> None:
    net = elastic(VisionTransformer(depth=1), (X,), importance="taylor", calibration=images())
    assert sorted(net.orders["blocks.0.attn.qkv"].tolist()) == [0, 1, 2, 3]
    first = net.orders["blocks.0.attn.qkv"].tolist()
    for _ in range(2):
        net.rank("taylor", images())
        assert net.orders["blocks.0.attn.qkv"].tolist() == first


def test_a_measured_ranking_is_saved_and_needs_no_data_to_load(net: SuperNet, tmp_path: Path) -> None:
    net.rank("activation", images())
    net.save(tmp_path / "net.pt")
    again = SuperNet.load(tmp_path / "net.pt", ResidualNet(), (X,))
    assert again.options == net.options
    assert all(torch.equal(order, again.orders[name]) for name, order in net.orders.items())


def test_criteria_without_their_data_are_refused(net: SuperNet) -> None:
    with pytest.raises(UsageError, match="no importance"):
        elastic(ResidualNet(), (X,), importance="l3")
    with pytest.raises(UsageError, match="measured on data"):
        elastic(ResidualNet(), (X,), importance="taylor")
    with pytest.raises(UsageError, match="nothing to rank"):
        net.rank("activation", [])
    with pytest.raises(UsageError, match="no labels"):
        net.rank("taylor", [X])


def test_heads_merged_with_the_batch_are_ranked_on_activations() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.attn, self.head = nn.Linear(8, 8), nn.MultiheadAttention(8, 4), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x).transpose(0, 1)
            z: Tensor = self.head(self.attn(y, y, y, need_weights=False)[0].mean(0))
            return z

    net = elastic(randomised(Attending()), (torch.randn(2, 5, 8),), divisor=1)
    orders = net.rank("activation", [torch.randn(3, 5, 8)])
    heads = next(d.name for d in net.space.dimensions if d.kind == "heads")
    assert sorted((orders or net.orders)[heads].tolist()) == [0, 1, 2, 3]


def test_a_network_without_parameters_has_nothing_to_rank() -> None:
    net = elastic(nn.ReLU(), (torch.randn(2, 8),))
    net.rank("activation", [torch.randn(3, 8)])
    assert not net.orders


def test_inputs_without_one_entry_for_each_sample_stay_whole() -> None:
    images, table = torch.randn(6, 3), torch.randn(9, 3)
    batches = list(read([((images, table), torch.zeros(6))], torch.device("cpu"), 4))
    assert [x.shape[0] for batch in batches for x in batch.inputs.tensors] == [4, 9]
