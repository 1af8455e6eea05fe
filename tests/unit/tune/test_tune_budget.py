"""Where the next batch goes, and when nothing is worth another minute."""

from __future__ import annotations

import math

import pytest

from tailorbird.tune.budget import Budget


def test_a_kernel_without_a_time_comes_first_unless_all_its_candidates_fail() -> None:
    budget = Budget({"new": (1, None), "slow": (1, 1000.0)})
    assert budget.next(8, {"new", "slow"}) == "new"
    assert budget.gain_per_minute(8, {"new", "slow"}) == math.inf
    budget.learn("new", [None] * 8, 4.0)
    assert budget.next(8, {"new", "slow"}) == "slow"


def test_calls_and_time_weigh_alike() -> None:
    budget = Budget({"often": (10, 100.0), "slow": (1, 1000.0), "light": (1, 10.0)})
    assert budget.expected_gain_us("often", 8) == pytest.approx(budget.expected_gain_us("slow", 8))
    assert budget.expected_gain_us("often", 8) > 50 * budget.expected_gain_us("light", 8)
    assert budget.next(8, {"light"}) == "light"


def test_a_kernel_that_still_gains_is_preferred_to_one_that_does_not() -> None:
    budget = Budget({"flat": (1, 100.0), "falling": (1, 100.0)})
    budget.learn("flat", [100.0] * 16, 8.0)
    budget.learn("falling", [100.0 - 4 * step for step in range(16)], 8.0)
    assert budget.expected_gain_us("falling", 8) > 2 * budget.expected_gain_us("flat", 8)


def test_a_kernel_whose_candidates_take_long_must_win_more() -> None:
    budget = Budget({"quick": (1, 100.0), "long": (1, 100.0)})
    budget.learn("quick", [100.0] * 4, 1.0)
    budget.learn("long", [100.0] * 4, 10.0)
    assert budget.next(8, {"quick", "long"}) == "quick"
    assert budget.expected_gain_us("quick", 8) == budget.expected_gain_us("long", 8)


def test_without_gains_the_promise_falls_below_any_threshold() -> None:
    budget = Budget({"a": (1, 100.0)})
    promises = []
    for _ in range(40):
        budget.learn("a", [120.0] * 8, 4.0)
        promises.append(budget.gain_per_minute(8, {"a"}))
    assert promises == sorted(promises, reverse=True)
    assert promises[0] > 0.1
    assert promises[-1] < 0.002
    assert budget.gain_per_minute(8, set()) == 0.0
