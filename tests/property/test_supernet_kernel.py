"""Elastic kernels: geometry stays, subnets are exact, transforms start as the plain centre crop and learn."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from zoo.small_models import randomised

from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config


class DepthwiseNet(nn.Module):
    """ConvNeXt-like: a strided 7x7 stem, depthwise 7x7 blocks, and an Inception-like pair of 1x7 and 7x1."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, 2, 3)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.up, self.down = nn.Conv2d(width, 32, 1), nn.Conv2d(32, width, 1)
        self.row = nn.Conv2d(width, 24, (1, 7), padding="same", bias=False)
        self.column = nn.Conv2d(24, 24, (7, 1), padding=(6, 0), dilation=(2, 1), groups=4)
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.down(F.gelu(self.up(self.depthwise(x))))
        return self.fc(F.relu(self.column(F.relu(self.row(x)))).mean((2, 3)))


class Signal(nn.Module):
    """1-D: a kernel of 9 and a tight padding that leaves less to cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 16, 9, padding=4)
        self.tight = nn.Conv1d(16, 16, 9, padding=2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.tight(F.relu(self.first(x)))).amax(2))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 8, 5, padding=2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3, 4)))


def _image(n: int) -> Tensor:
    return torch.randn(n, 3, 14, 14)


NETS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "2d": (DepthwiseNet, _image),
    "1d": (Signal, lambda n: torch.randn(n, 2, 20)),
    "3d": (Volume, lambda n: torch.randn(n, 1, 6, 6, 6)),
}


@functools.cache
def compiled(name: str) -> tuple[nn.Module, SuperNet]:
    torch.set_num_threads(1)
    make, inputs = NETS[name]
    torch.manual_seed(0)
    model = randomised(make()).eval()
    return model, elastic(model, (inputs(1),), divisor=4)


def trained(name: str) -> SuperNet:
    """A net of its own whose transforms are far from the identity."""
    make, inputs = NETS[name]
    torch.manual_seed(0)
    net = elastic(randomised(make()).eval(), (inputs(1),), divisor=4)
    for matrix in net.transforms.parameters():
        nn.init.normal_(matrix, 0, 0.1)
    return net


def kernels(net: SuperNet) -> dict[str, tuple[int, ...]]:
    return {d.name: d.choices for d in net.space.kernel}


def test_every_odd_size_the_padding_allows_is_offered() -> None:
    assert kernels(compiled("2d")[1]) == {
        "stem:kernel": (3, 5, 7),
        "depthwise:kernel": (3, 5, 7),
        "row:kernel": (3, 5, 7),
        "column:kernel": (3, 5, 7),
    }
    assert kernels(compiled("1d")[1]) == {"first:kernel": (3, 5, 7, 9), "tight:kernel": (5, 7, 9)}
    assert kernels(compiled("3d")[1]) == {"conv:kernel": (3, 5)}


@pytest.mark.parametrize("name", NETS)
def test_the_full_configuration_is_bitwise_the_users_network_whatever_the_transforms_are(name: str) -> None:
    model, _ = compiled(name)
    net, x = trained(name), NETS[name][1](3)
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
    assert set(net.state_dict()) == set(model.state_dict())
    assert NETS[name][0]().load_state_dict(net.state_dict())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("learnt", [False, True])
def test_an_extracted_subnet_is_bitwise_the_supernet_and_exports_again(name: str, learnt: bool) -> None:
    net = trained(name) if learnt else compiled(name)[1]
    x = NETS[name][1](3)
    with torch.no_grad():
        for config in (net.space.smallest(), *(net.space.sample(seed) for seed in range(4))):
            sub = net.extract(config)
            assert torch.equal(net(x, config=config), sub(x)), config
            assert net.params(config) == sum(p.numel() for p in sub.parameters())
            assert {n for n, _ in sub.named_parameters()} <= {n for n, _ in net.weights.named_parameters()}
        again = torch.export.export(sub, (x,), strict=False).module()
        assert torch.equal(again(x), sub(x))


@pytest.mark.parametrize("name", NETS)
def test_an_untrained_small_kernel_computes_what_the_large_one_does_with_its_rim_zeroed(name: str) -> None:
    model, net = compiled(name)
    x = NETS[name][1](2)
    for dimension, choices in kernels(net).items():
        for size in choices[:-1]:
            config = Config.of({dimension: size})
            oracle = NETS[name][0]().eval()
            oracle.load_state_dict(model.state_dict())
            conv = oracle.get_submodule(dimension.removesuffix(":kernel"))
            mask = torch.zeros_like(conv.weight)
            middle = tuple(
                slice((full - min(full, size)) // 2, (full + min(full, size)) // 2) for full in mask.shape[2:]
            )
            mask[(slice(None), slice(None), *middle)] = 1
            with torch.no_grad():
                conv.weight.mul_(mask)
                torch.testing.assert_close(oracle(x), net(x, config=config), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_costs_rise_with_the_kernel_and_are_those_of_the_extracted_network(name: str) -> None:
    _, net = compiled(name)
    x = NETS[name][1](1)
    for dimension, choices in kernels(net).items():
        configs = [net.space.canonical(Config.of({dimension: size})) for size in choices]
        found = [(net.params(config), net.macs(config)) for config in configs]
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(found))
        for config in configs:
            sub = net.extract(config)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                sub(x)
            assert counter.get_total_flops() == 2 * net.macs(config)


def test_small_kernels_are_cut_from_the_next_larger_ones_by_the_matrices() -> None:
    net = trained("2d")
    weight = net.weights.stem.weight
    to_five, to_three = (torch.eye(n) + net.transforms.matrices[i] for i, n in ((0, 25), (1, 9)))
    five = (weight[:, :, 1:6, 1:6].flatten(2) @ to_five.t()).unflatten(2, (5, 5))
    three = (five[:, :, 1:4, 1:4].flatten(2) @ to_three.t()).unflatten(2, (3, 3))
    for size, expected in ((5, five), (3, three)):
        found = net.extract(Config.of({"stem:kernel": size})).get_parameter("stem.weight")
        torch.testing.assert_close(found, expected)


def test_gradients_reach_the_shared_weight_and_every_matrix_on_the_way() -> None:
    net = trained("2d")
    x = _image(4)
    net(x, config=Config.of({"stem:kernel": 3})).square().sum().backward()
    assert all(net.transforms.matrices[i].grad.abs().max() > 0 for i in (0, 1))
    assert all(matrix.grad is None for matrix in list(net.transforms.matrices)[2:])
    grad = net.weights.stem.weight.grad
    assert grad[:, :, 1:6, 1:6].abs().min() > 0
    assert grad[:, :, 0].abs().max() == 0


def test_training_moves_the_matrices_and_saving_keeps_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = elastic(DepthwiseNet(), (_image(1),), divisor=4, freeze="row:kernel", choices={"stem:kernel": [3]})
    assert kernels(net) == {"stem:kernel": (3, 7), "depthwise:kernel": (3, 5, 7), "column:kernel": (3, 5, 7)}
    net.fit([(_image(8), torch.randint(0, 5, (8,)))], steps=2)
    assert any(matrix.abs().max() > 0 for matrix in net.transforms.parameters())
    net.save(tmp_path / "net.pt")
    again = SuperNet.load(tmp_path / "net.pt", DepthwiseNet(), (_image(1),))
    assert kernels(again) == kernels(net)
    assert again.options == net.options
    x, config = _image(2), net.space.smallest()
    with torch.no_grad():
        assert torch.equal(net(x, config=config), again(x, config=config))


def test_an_update_that_is_taken_back_takes_the_matrices_back() -> None:
    net = elastic(DepthwiseNet(), (_image(1),), divisor=4)
    scores = itertools.chain([0.9], itertools.repeat(0.1))
    result = net.fit(
        [(_image(8), torch.randint(0, 5, (8,)))], steps=2, validate=lambda _run: next(scores), full="trained"
    )
    assert result.update_kept == 0
    assert all(matrix.abs().max() == 0 for matrix in net.transforms.parameters())


class SharedKernel(nn.Module):
    """One conv used twice, one whose weight is computed, and one that looks at fewer pixels the smaller it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Conv2d(3, 3, 5, padding=2)
        self.scaled = nn.Conv2d(3, 8, 5, padding=2)
        self.valid = nn.Conv2d(8, 8, 5)
        self.even = nn.Conv2d(8, 8, 6, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x))
        x = F.conv2d(x, self.scaled.weight * 2, padding=2)
        return self.even(self.valid(x)).mean((2, 3))


def test_kernels_that_cannot_shrink_safely_keep_their_size() -> None:
    net = elastic(SharedKernel(), (torch.randn(1, 3, 12, 12),))
    assert kernels(net) == {}


def test_long_kernels_offer_their_quarters_and_no_huge_matrix() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 31, padding=15, groups=4), nn.Flatten(), nn.Linear(256, 3))
    net = elastic(model, (torch.randn(1, 4, 8, 8),))
    assert kernels(net) == {"0:kernel": (7, 15, 23, 31)}
    assert [matrix.shape for matrix in net.transforms.parameters()] == [(49, 49)]
    config, x = Config.of({"0:kernel": 7}), torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x, config=config), net.extract(config)(x))


KERNELS = st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 3, 5, 7]))


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    full=KERNELS,
    padding=KERNELS,
    dilation=st.integers(1, 2),
    stride=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 8]),
    seed=st.integers(0, 10**6),
)
def test_any_convolution_is_exact_at_any_kernel(
    full: tuple[int, int], padding: tuple[int, int], dilation: int, stride: int, groups: int, seed: int
) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    pads = tuple((side // 2) * dilation for side in padding)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 16, full, stride, pads, dilation, groups),
        nn.ReLU(),
        nn.Conv2d(16, 4, 1),
    ).eval()
    x = torch.randn(2, 3, 15, 15)
    net = elastic(model, (x[:1],), divisor=2)
    for matrix in net.transforms.parameters():
        nn.init.normal_(matrix, 0, 0.1)
    with torch.no_grad():
        y = model(x)
        assert torch.equal(y, net(x))
        for config in (net.space.smallest(), net.space.sample(seed), net.space.sample(seed + 1)):
            found = net(x, config=config)
            assert found.shape == y.shape
            assert torch.equal(found, net.extract(config)(x))
            assert net.macs(config) <= net.macs()
