"""Decisions: whatever is drawn, mutated or refitted is a valid schedule."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.tune.space import (
    FEATURES,
    Choice,
    KernelSpace,
    VectorUnit,
    divisors,
    features,
    mutate,
    refit,
    sample,
)

UNITS = st.sampled_from([VectorUnit(16, 32), VectorUnit(8, 16), VectorUnit(4, 32)])
EXTENTS = st.tuples(st.just(1), st.integers(1, 64), st.integers(1, 64), st.integers(1, 256))


def convolution(extents, reductions=(3, 3, 16)) -> tuple[Choice, ...]:
    spatial = [Choice("tile", extent, 4) for extent in extents]
    reduction = [Choice("tile", extent, 2) for extent in reductions]
    return (*spatial, *reduction, Choice("category", parts=3), Choice("location"))


def assert_valid(sketch, decisions) -> None:
    assert len(decisions) == len(sketch)
    for choice, decision in zip(sketch, decisions, strict=True):
        if choice.kind == "tile":
            assert len(decision) == choice.parts
            assert math.prod(decision) == choice.extent
            assert decision[-1] <= 64
        elif choice.kind == "category":
            assert 0 <= decision < choice.parts


@given(extents=EXTENTS, unit=UNITS, seed=st.integers(0, 2**16))
def test_every_sample_tiles_each_loop_exactly(extents, unit, seed) -> None:
    sketch = convolution(extents)
    assert_valid(sketch, sample(sketch, unit, random.Random(seed)))


@given(extents=EXTENTS, unit=UNITS, seed=st.integers(0, 2**16))
def test_the_register_tile_never_needs_more_registers_than_there_are(extents, unit, seed) -> None:
    decisions = sample(convolution(extents), unit, random.Random(seed))
    pixels = math.prod(decision[3] for decision in decisions[:3])
    vectors = -(-decisions[3][3] // unit.lanes)
    assert pixels * vectors <= max(unit.registers - 2, vectors)


@given(extents=EXTENTS, seed=st.integers(0, 2**16), steps=st.integers(1, 6))
def test_mutants_stay_valid(extents, seed, steps) -> None:
    rng, sketch = random.Random(seed), convolution(extents)
    decisions = sample(sketch, VectorUnit(16, 32), rng)
    for _ in range(steps):
        decisions = mutate(sketch, decisions, rng)
        assert_valid(sketch, decisions)


@given(source=EXTENTS, target=EXTENTS, seed=st.integers(0, 2**16))
def test_refitting_gives_valid_decisions_and_keeps_those_that_fit(source, target, seed) -> None:
    donor = sample(convolution(source), VectorUnit(16, 32), random.Random(seed))
    assert_valid(convolution(target), refit(donor, convolution(target)))
    assert refit(donor, convolution(source)) == donor


def test_refitting_takes_the_nearest_divisor_from_the_inside_out() -> None:
    sketch = (Choice("tile", 48, 4),)
    assert refit(((2, 1, 2, 16),), sketch) == ((1, 1, 3, 16),) or refit(((2, 1, 2, 16),), sketch)[0][3] == 16
    assert refit(((1, 1, 1, 32),), sketch)[0][3] in {24, 48}


@pytest.mark.parametrize(
    "source",
    [(), ((1, 1, 1, 4), 0, 0), ((4,), 0, 0), (3, 0, 0), ((1, 1, 1, 4), 9, 0)],
    ids=["shorter", "no location", "other parts", "no tile", "no such category"],
)
def test_decisions_of_another_sketch_are_not_refitted(source) -> None:
    assert refit(source, (Choice("tile", 4, 4), Choice("category", parts=3))) is None


@given(st.integers(1, 5000))
def test_divisors_are_all_of_them_in_order(number) -> None:
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


@given(extents=EXTENTS, seed=st.integers(0, 2**16))
def test_features_are_finite_and_named(extents, seed) -> None:
    sketch = convolution(extents)
    space = KernelSpace("k", "0x1", "conv", 1e6, (sketch,))
    values = features(space, 0, sample(sketch, VectorUnit(8, 16), random.Random(seed)), VectorUnit(8, 16))
    assert len(values) == len(FEATURES)
    assert all(math.isfinite(value) for value in values)


def test_distance_is_in_octaves_and_infinite_between_classes() -> None:
    space = KernelSpace("k", "0x1", "conv", 1e6, (convolution((1, 32, 32, 64)),))
    assert space.distance((1, 32, 32, 64, 3, 3, 16)) == 0
    assert space.distance((1, 16, 32, 32, 3, 3, 16)) == 2
    assert space.distance((1, 2)) == math.inf
