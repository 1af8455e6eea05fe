from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from zoo.small_models import ResidualNet

from tailorbird.supernet import SearchSpace, elastic
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.sampler import Sampler
from tailorbird.types import Config


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return elastic(ResidualNet(16).eval(), (torch.randn(1, 3, 8, 8),), divisor=2).space


SHARES = st.floats(0, 1, allow_nan=False)


@given(
    step=st.integers(0, 10**6), share=SHARES, sampling=st.sampled_from(["compound-first", "compound", "independent"])
)
def test_nothing_falls_below_what_the_curriculum_allows(
    space: SearchSpace, step: int, share: float, sampling: str
) -> None:
    sampler = Sampler(space, Recipe(sampling=sampling, n_random=3))
    floor = sampler.floor(share)
    full = {dimension.name: dimension.size for dimension in space.dimensions}
    for config in sampler.subnets(step, share):
        space.validate(config)
        assert not config.is_full
        assert all(size >= floor * full[name] for name, size in config.sizes)


@pytest.mark.parametrize("depth", ["independent", "stages"])
def test_a_step_draws_the_same_subnets_wherever_it_is_drawn(space: SearchSpace, depth: str) -> None:
    one, two = (Sampler(space, Recipe(depth=depth, seed=5)) for _ in range(2))
    assert [one.subnets(step, 0.8) for step in range(20)] == [two.subnets(step, 0.8) for step in range(20)]
    other = Sampler(space, Recipe(depth=depth, seed=6))
    assert [one.subnets(step, 0.8) for step in range(20)] != [other.subnets(step, 0.8) for step in range(20)]


def test_the_last_part_of_the_curriculum_reaches_the_smallest_subnet_and_everything_between(space: SearchSpace) -> None:
    sampler = Sampler(space, Recipe(n_random=2))
    assert sampler.floor(0.0) == 0.75
    assert sampler.floor(0.5) == 0.5
    assert sampler.floor(1.0) == 0.0
    drawn = [config for step in range(300) for config in sampler.subnets(step, 0.9)]
    assert space.smallest() in drawn
    seen = {pair for config in drawn for pair in config.sizes} | {(name, 0) for c in drawn for name in c.skipped}
    assert seen >= {(d.name, k) for d in space.dimensions for k in d.choices[:-1]}


def test_compound_sampling_scales_all_dimensions_by_one_ratio(space: SearchSpace) -> None:
    sampler = Sampler(space, Recipe(sampling="compound", n_random=1, ratios=()))
    sized = [d for d in space.dimensions if d.kind != "depth"]
    gap = max(max(b - a for a, b in zip(d.choices, d.choices[1:], strict=False)) / d.size for d in sized)
    for step in range(50):
        for config in sampler.subnets(step, 0.1)[1:]:
            kept = dict(config.sizes)
            dead, _ = space.dead(config)
            ratios = [kept.get(d.name, d.size) / d.size for d in sized if d.name not in dead]
            assert max(ratios) - min(ratios) <= gap


def test_without_a_curriculum_the_whole_space_is_open_from_the_start(space: SearchSpace) -> None:
    sampler = Sampler(space, Recipe(ratios=()))
    assert sampler.floor(0.0) == 0
    assert sampler.subnets(0, 0.0)[0] == space.smallest()


def test_a_space_of_one_network_trains_that_alone() -> None:
    sampler = Sampler(SearchSpace((), lambda _skipped: (frozenset(), frozenset())), Recipe())
    assert sampler.subnets(0, 0.9) == []
    assert sampler.smallest(0.5) == Config()
