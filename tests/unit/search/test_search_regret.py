"""Regret of one Pareto set against another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.search.pareto import Point
from tailorbird.search.regret import pareto_regret
from tailorbird.types import Config


def points(*pairs: tuple[float, float]) -> list[Point]:
    return [Point(Config.of({"a": n}), accuracy, us) for n, (us, accuracy) in enumerate(pairs)]


some = st.lists(st.tuples(st.floats(1, 1e4), st.floats(0, 1)), min_size=1, max_size=8)


@given(some)
def test_a_set_has_no_regret_against_itself(pairs):
    found = pareto_regret(points(*pairs), points(*pairs))
    assert (found.mean, found.worst, found.fastest) == (0, 0, 1)


@given(some, some)
def test_a_set_that_holds_the_reference_is_never_worse(pairs, more):
    found = pareto_regret(points(*pairs, *more), points(*pairs))
    assert found.worst <= 0
    assert found.mean <= 1e-12
    assert found.fastest <= 1


@given(some, some)
def test_the_mean_lies_below_the_worst(pairs, others):
    found = pareto_regret(points(*pairs), points(*others))
    assert found.mean <= found.worst + 1e-12


def test_deadlines_count_by_their_logarithm():
    reference = points((1, 0.5), (10, 0.9), (100, 0.95))
    found = pareto_regret(points((1, 0.5), (10, 0.7), (100, 0.95)), reference)
    assert found.mean == pytest.approx(0.2 * math.log(10) / math.log(100))
    assert found.worst == pytest.approx(0.2)


def test_a_set_without_fast_points_says_so():
    found = pareto_regret(points((4, 0.9)), points((1, 0.5), (4, 0.9)))
    assert (found.mean, found.fastest) == (0, 4)


def test_an_empty_set_is_refused():
    with pytest.raises(ValueError, match="both sides"):
        pareto_regret([], points((1, 0.5)))
