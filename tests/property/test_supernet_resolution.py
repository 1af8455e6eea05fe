"""Other sizes: any image size or sequence length the user's module takes, and subnets that look at smaller images."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from zoo.small_models import ResidualBlock, ResidualNet, TextEncoder, VisionTransformer, randomised

from tailorbird.errors import InputShapeError, UsageError
from tailorbird.supernet import SuperNet, accuracy_table, elastic
from tailorbird.types import Config


class Classifier(nn.Module):
    """A strided stem, a residual block, and windows whose number follows the image: every view is another one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = ResidualBlock(8, 8)
        self.mix, self.fc = nn.Linear(8, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        n, c, h, w = x.shape
        windows = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w // 4, 4, c)
        return self.fc(F.gelu(self.mix(windows.amax(2))).mean(1))


def images(n: int, height: int = 96, width: int | None = None) -> Tensor:
    return torch.randn(n, 3, height, width or height)


@functools.cache
def compiled() -> tuple[nn.Module, SuperNet]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = randomised(Classifier()).eval()
    return model, elastic(model, (images(1, 128),), divisor=4)


def resolutions(net: SuperNet) -> tuple[tuple[int, ...], ...]:
    return tuple(d.choices for d in net.space.resolution)


# -- the resolution as a dimension


def test_large_images_can_shrink_in_steps_of_32() -> None:
    _, net = compiled()
    assert resolutions(net) == ((64, 96, 128),)
    assert dict(net.space.smallest().sizes)["resolution"] == 64
    assert "resolution" in net.report.render()
    assert net.report.macs_smallest == net.macs(net.space.smallest())
    wide = elastic(Classifier(), (images(1, 96, 160),), divisor=4)
    assert resolutions(wide) == ((64, 96),)
    assert wide.extract(Config.of({"resolution": 64}))(images(2, 96, 160)).shape == (2, 5)


def test_the_full_resolution_has_no_resize_and_is_bitwise_the_users_network() -> None:
    model, net = compiled()
    x = images(3, 128)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
        assert torch.equal(model(x), net(x, config=Config.of({"resolution": 128})))
    assert not [node for node in net.extract().graph.nodes if "upsample" in str(node.target)]


@pytest.mark.parametrize("seed", range(4))
def test_a_subnet_at_another_resolution_is_exact_and_takes_the_full_image(seed: int) -> None:
    _, net = compiled()
    drawn = dict(net.space.sample(seed).sizes) | {"resolution": (64, 96)[seed % 2]}
    config = net.space.canonical(Config.of(drawn, net.space.sample(seed).skipped))
    sub = net.extract(config)
    with torch.no_grad():
        for batch in (1, 5):
            x = images(batch, 128)
            assert torch.equal(net(x, config=config), sub(x))
        again = torch.export.export(sub, (x,), strict=False).module()
        assert torch.equal(again(x), sub(x))
        small = F.interpolate(x, size=(drawn["resolution"],) * 2, mode="bilinear", align_corners=False)
        rest = Config.of({k: v for k, v in drawn.items() if k != "resolution"}, config.skipped)
        assert torch.equal(net(x, config=config), net(small, config=rest)), "the resize is all there is to it"
    assert Config.from_json(config.to_json()) == config
    assert hash(config) == hash(Config.of(dict(reversed(config.sizes)), config.skipped))


def test_costs_follow_the_resolution_and_are_those_of_the_extracted_network() -> None:
    _, net = compiled()
    configs = [net.space.canonical(Config.of({"resolution": size})) for size in (64, 96, 128)]
    for small, large in itertools.pairwise(configs):
        assert net.macs(small) < net.macs(large)
        assert net.params(small) == net.params(large)
    assert net.peak_activation_bytes(configs[1]) == 4 * 3 * (128 * 128 + 96 * 96), "while it is resized, both are there"
    for config in configs:
        sub, x = net.extract(config), images(1, 128)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            sub(x)
        assert counter.get_total_flops() == 2 * net.macs(config)


def test_training_recalibration_and_accuracy_prediction_work_at_every_resolution() -> None:
    torch.manual_seed(0)
    net = elastic(Classifier(), (images(1),), divisor=4)
    data = [(images(4), torch.randint(0, 5, (4,))) for _ in range(2)]
    assert net.fit(data, steps=2).steps == 2
    config = Config.of({"resolution": 64})
    net.recalibrate(config, data)
    with torch.no_grad():
        expected = F.conv2d(
            F.interpolate(torch.cat([x for x, _ in data]), (64, 64), mode="bilinear"),
            net.extract(config).get_parameter("stem.0.weight"),
            None,
            4,
            2,
        )
        torch.testing.assert_close(net.statistics(config)["stem.1.running_mean"], expected.mean((0, 2, 3)))
        assert torch.equal(net(data[0][0], config=config), net.extract(config)(data[0][0]))
    table = accuracy_table(net, data, anchors=2, probe_images=8)
    assert {f.choice for f in table.factors if f.name == "resolution"} == {64}


def test_gradients_of_a_smaller_view_are_those_of_the_extracted_network() -> None:
    _, net = compiled()
    config, x = Config.of({"resolution": 64}), images(2, 128)
    sub = net.extract(config)
    net.zero_grad(set_to_none=True)
    net(x, config=config).square().sum().backward()
    sub(x).square().sum().backward()
    for name, parameter in sub.named_parameters():
        assert torch.equal(parameter.grad, net.weights.get_parameter(name).grad), name
    net.zero_grad(set_to_none=True)


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.head(F.relu(self.body(x))), scale_factor=2.0)


class Changing(nn.Module):
    """Below 96 pixels it leaves its middle layer out: another network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle = nn.Conv2d(3, 8, 3, 4), nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        if x.shape[-1] >= 96:
            y = F.relu(self.middle(y))
        return self.fc(y.mean((2, 3)))


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 8, 8), nn.Linear(4 * 12 * 12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).flatten(1))


@pytest.mark.parametrize("make", [Segmenter, Changing, Fixed])
def test_no_resolution_where_the_network_is_another_one_on_smaller_images(make: type[nn.Module]) -> None:
    net = elastic(make(), (images(1),), divisor=4)
    assert net.space.resolution == ()


def test_no_resolution_for_small_images_or_when_it_is_frozen_unless_the_user_names_one() -> None:
    small = (images(1, 16),)
    assert elastic(ResidualNet(), small).space.resolution == ()
    assert elastic(Classifier(), (images(1),), freeze="resolution").space.resolution == ()
    net = elastic(ResidualNet(), small, choices={"resolution": [8, 12]}, only=["resolution", "layer2*"])
    assert resolutions(net) == ((8, 12, 16),)
    assert {d.kind for d in net.space.dimensions} == {"resolution", "width", "depth"}
    config, x = Config.of({"resolution": 12}), images(2, 16)
    with torch.no_grad():
        assert torch.equal(net(x, config=config), net.extract(config)(x))


@pytest.mark.parametrize("make", [VisionTransformer, Segmenter])
def test_a_resolution_the_network_cannot_work_at_is_refused(make: type[nn.Module]) -> None:
    with pytest.raises(UsageError, match="resolution of 8") as caught:
        elastic(make(), (images(1, 16),), choices={"resolution": [8]})
    assert caught.value.why


# -- other sizes of the input itself


def test_another_image_size_runs_trains_and_extracts_exactly() -> None:
    model, net = compiled()
    config = net.space.canonical(Config.of({"stem.0": 4, "mix": 8}))
    for size in ((40, 56), (64, 64)):
        x = images(3, *size)
        sub = net.extract(config, (x[:1],))
        with torch.no_grad():
            assert torch.equal(model(x), net(x))
            assert torch.equal(net(x, config=config), sub(x))
        assert net.macs(config, (x,)) < net.macs(config)
        assert net.peak_activation_bytes(config, 1, (x,)) < net.peak_activation_bytes(config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            sub(x[:1])
        assert counter.get_total_flops() == 2 * net.macs(config, (x,))


def test_training_at_another_size_gives_the_users_gradients_and_leaves_modes_alone() -> None:
    torch.manual_seed(0)
    model = Classifier().train()
    net = elastic(model, (images(1, 32),), divisor=4).train()
    x = images(4, 48)
    config = net.space.smallest()
    assert torch.isfinite(net(x, config=config)).all()
    assert net.training
    assert net.weights.block.bn1.training
    before = net.weights.stem[1].running_mean.clone()
    net(x, config=config).sum().backward()
    assert torch.equal(before, net.weights.stem[1].running_mean)
    assert net.weights.stem[0].weight.grad is not None


def test_any_sequence_length_the_module_takes() -> None:
    torch.manual_seed(0)
    model = randomised(TextEncoder()).eval()
    tokens = torch.randint(0, 50, (3, 12))
    mask = torch.ones(3, 12, dtype=torch.long)
    net = elastic(model, (tokens[:1], mask[:1]))
    for length in (5, 9):
        x = (tokens[:, :length], mask[:, :length])
        with torch.no_grad():
            assert torch.equal(model(*x)["logits"], net(*x)["logits"])
            config = net.space.sample(length)
            assert torch.equal(net(*x, config=config)["logits"], net.extract(config, x)(*x)["logits"])
    with pytest.raises(InputShapeError, match="does not run on int64") as caught:
        net(torch.randint(0, 50, (1, 13)), torch.ones(1, 13, dtype=torch.long))
    assert "12" in caught.value.why


class Positions(nn.Module):
    """Constants of the forward pass that follow the length."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.tensor([float(i) for i in range(x.shape[1])])
        return self.second(torch.relu(self.first(x)) * ramp[:, None]).sum(1)


def test_constants_that_follow_the_size_are_those_of_the_size() -> None:
    model = Positions().eval()
    net = elastic(model, (torch.randn(1, 6, 4),))
    with torch.no_grad():
        for length in (6, 3, 8, 6):
            x = torch.randn(2, length, 4)
            assert torch.equal(model(x), net(x))
            config = net.space.smallest()
            assert torch.equal(net(x, config=config), net.extract(config, (x,))(x))


def test_a_size_at_which_the_network_is_put_together_differently_runs_in_full_only() -> None:
    model = Changing().eval()
    net = elastic(model, (images(1),), divisor=4)
    x = images(2, 48)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
    with pytest.raises(InputShapeError, match="not elastic at this size"):
        net(x, config=Config.of({"middle": 4}))
    with pytest.raises(InputShapeError, match="not elastic at this size"):
        net.extract(Config.of({"middle": 4}), (x,))


def test_only_a_few_sizes_are_kept_and_the_first_is_never_dropped() -> None:
    net = elastic(Positions().eval(), (torch.randn(1, 6, 4),))
    first = net.sizes.base
    for length in range(1, 13):
        net(torch.randn(1, length, 4))
    assert net.sizes.base is first
    assert len(list(net.sizes)) < 12
    assert net.sizes.find([torch.randn(1, 12, 4)]) is not None
    assert net.sizes.find([torch.randn(1, 1, 4)]) is None
