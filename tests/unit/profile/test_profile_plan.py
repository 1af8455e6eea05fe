"""Kernels of subnets: learnt, planned."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from torch import nn

from tailorbird.compile.kernels import kernels_of
from tailorbird.profile import KernelTemplate, covering_subnets, family, learn_kernels, plan_kernels
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config, KernelSpec

X = (torch.zeros(1, 3, 16, 16),)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

    def forward(self, x):
        return torch.relu(self.b(self.a(x)) + x)


class Tiny(nn.Module):
    """Three blocks of one shape: their kernels can only be told apart by their inner widths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.blocks = nn.Sequential(Block(32), Block(32), Block(32))
        self.head = nn.Linear(32 * 4, 5)

    def forward(self, x):
        x = torch.max_pool2d(self.blocks(torch.relu(self.stem(x))), 8)
        return self.head(torch.flatten(x, 1))


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return elastic(Tiny().eval(), X)


@pytest.fixture(scope="module")
def captured(net: SuperNet):
    """Kernels by capturing each subnet, which is slow and certain."""
    return functools.cache(lambda config: tuple(kernels_of(net.extract(config), X)))


@pytest.fixture(scope="module")
def learnt(net: SuperNet, captured):
    return learn_kernels(net.space, captured)


def test_a_template_lists_the_same_kernels_as_a_capture(net: SuperNet, captured, learnt):
    assert isinstance(learnt, KernelTemplate)
    unseen = [net.space.sample(seed) for seed in range(500, 515)]
    assert [learnt(config) for config in unseen] == [captured(config) for config in unseen]


class Wide(nn.Module):
    """A large kernel over images that may be looked at smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 7, 4, 3)
        self.block = Block(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.block(torch.relu(self.stem(x))).mean((2, 3)))


def test_a_template_follows_kernel_sizes_and_resolutions() -> None:
    x = (torch.zeros(1, 3, 96, 96),)
    net = elastic(Wide().eval(), x)
    assert {d.kind for d in net.space.dimensions} == {"width", "depth", "kernel", "resolution"}
    captured = functools.cache(lambda config: tuple(kernels_of(net.extract(config), x)))
    learnt = learn_kernels(net.space, captured)
    assert isinstance(learnt, KernelTemplate)
    unseen = [net.space.sample(seed) for seed in range(500, 510)]
    assert [learnt(config) for config in unseen] == [captured(config) for config in unseen]


def test_blocks_own_disjoint_kernels(learnt):
    owned = [index for run in learnt.runs.values() for index in run]
    assert len(owned) == 9
    assert len(set(owned)) == 9


def test_a_network_that_is_not_affine_is_captured_subnet_by_subnet(net: SuperNet):
    calls: list[Config] = []

    def squared(config: Config) -> tuple[KernelSpec, ...]:
        calls.append(config)
        return (KernelSpec("linear", 4, sum(size for _, size in config.sizes) ** 2 + 1),)

    fallback = learn_kernels(net.space, squared)
    config = net.space.sample(77)
    assert not isinstance(fallback, KernelTemplate)
    assert fallback(config) == squared(config)
    before = len(calls)
    fallback(config)
    assert len(calls) == before, "a subnet is captured once"


def test_a_plan_of_a_template_holds_every_kernel_of_the_space_and_no_other(net: SuperNet, learnt):
    sizes = [d for d in net.space.dimensions if d.kind != "depth"]
    every = {
        spec
        for choice in itertools.product(*(d.choices for d in sizes))
        for spec in learnt(net.space.canonical(Config.of(dict(zip((d.name for d in sizes), choice, strict=True)))))
    }
    plan = plan_kernels(net.space, learnt)
    assert plan.exact
    assert set(plan.specs) == every
    assert plan.entries > plan.reachable, "the three blocks share their shapes"


def test_a_kernel_with_too_many_shapes_to_list_makes_the_plan_sample(net: SuperNet, learnt, monkeypatch):
    monkeypatch.setattr("tailorbird.profile.template._MANY", 3)
    plan = plan_kernels(net.space, learnt)
    assert not plan.exact
    assert plan.subnets > 100
    assert plan.entries == 0


def test_a_few_subnets_cover_every_kernel(net: SuperNet, learnt):
    wanted = set(plan_kernels(net.space, learnt).specs)
    chosen = covering_subnets(net.space, learnt, wanted)
    assert wanted <= {spec for config in chosen for spec in learnt(config)}
    assert len(chosen) < len(wanted) / 2
    elsewhere = KernelSpec("linear", 7, 7)
    assert covering_subnets(net.space, learnt, [elsewhere]) == (), "what no subnet has is not searched for for ever"


def test_a_plan_without_a_cap_holds_every_kernel_it_found(net: SuperNet, learnt):
    plan = plan_kernels(net.space, learnt, cap=10_000, samples=200)
    seen = {spec for seed in range(200) for spec in learnt(net.space.sample(seed))}
    assert seen <= set(plan.specs)
    assert plan.complete
    assert len(plan.specs) == len(set(plan.specs)) == plan.reachable


def test_a_cap_keeps_the_ends_of_every_family(net: SuperNet, learnt):
    every = plan_kernels(net.space, learnt, cap=10_000, samples=200).specs
    ends = {
        pick(members, key=lambda s: (s.in_channels, s.out_channels))
        for kin in {family(spec) for spec in every}
        for members in [[spec for spec in every if family(spec) == kin]]
        for pick in (min, max)
    }
    capped = plan_kernels(net.space, learnt, cap=24, samples=200)
    assert ends <= set(capped.specs)
    assert not capped.complete
    assert len(capped.specs) == 24


def test_plans_are_reproducible(net: SuperNet, learnt):
    assert plan_kernels(net.space, learnt, samples=50) == plan_kernels(net.space, learnt, samples=50)
