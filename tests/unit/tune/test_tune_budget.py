"""Where the next trial goes, and when nothing is worth another minute."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tailorbird.tune.budget import Budget


def of(**kernels: tuple[int, float | None]) -> Budget:
    """Kernels by (calls, best), each expected to take what it takes, or 100 us."""
    return Budget({key: (calls, best, best or 100.0, 0) for key, (calls, best) in kernels.items()})


def learn(budget: Budget, key: str, times: Sequence[float | None], seconds: float) -> None:
    for time_us in times:
        budget.plan(key, 1)
        budget.learn(key, time_us, seconds / len(times))


def test_a_kernel_without_a_time_comes_first_unless_all_its_candidates_fail() -> None:
    budget = of(new=(1, None), slow=(1, 1000.0))
    assert budget.next(8, {"new", "slow"}) == "new"
    assert budget.gain_per_minute(8, {"new", "slow"}) == math.inf
    learn(budget, "new", [None] * 8, 2.0)
    assert budget.next(8, {"new", "slow"}) == "slow"
    assert budget.gain_per_minute(8, {"new", "slow"}) < math.inf


def test_every_kernel_is_tried_once_before_any_is_tried_twice_and_heavy_ones_come_first() -> None:
    budget = Budget({str(k): (1, None, 10.0 * (k + 1), 0) for k in range(4)})
    order = []
    for _ in range(8):
        order.append(budget.next(1, {"0", "1", "2", "3"}))
        budget.plan(order[-1], 1)
    assert order[:2] == ["3", "2"]
    assert set(order) == {"0", "1", "2", "3"}


def test_calls_and_time_weigh_alike() -> None:
    budget = of(often=(10, 100.0), slow=(1, 1000.0), light=(1, 10.0))
    assert budget.expected_gain_us("often", 8) == pytest.approx(budget.expected_gain_us("slow", 8))
    assert budget.expected_gain_us("often", 8) > 50 * budget.expected_gain_us("light", 8)
    assert budget.next(8, {"light"}) == "light"


def test_a_kernel_that_still_gains_is_preferred_to_one_that_does_not() -> None:
    budget = of(flat=(1, 100.0), falling=(1, 100.0))
    learn(budget, "flat", [100.0] * 16, 8.0)
    learn(budget, "falling", [100.0 - 4 * step for step in range(16)], 8.0)
    assert budget.expected_gain_us("falling", 8) > 2 * budget.expected_gain_us("flat", 8)


def test_a_kernel_that_lags_behind_its_kind_is_preferred() -> None:
    budget = of(good=(1, 100.0), lagging=(1, 100.0))
    assert budget.expected_gain_us("good", 4) == budget.expected_gain_us("lagging", 4)
    budget.expect("lagging", 20.0)
    assert budget.expected_gain_us("lagging", 4) > 2 * budget.expected_gain_us("good", 4)


def test_plain_loops_give_a_kernel_a_time_and_no_hope() -> None:
    budget = of(known=(1, None))
    budget.plain("known", 4000.0, 0.5)
    assert budget.expected_gain_us("known", 1) > 3000.0, "no schedule was tried yet, and one should take 100 us"
    learn(budget, "known", [100.0] * 16, 4.0)
    assert budget.expected_gain_us("known", 1) < 5.0


def test_a_kernel_tried_in_earlier_runs_promises_less() -> None:
    budget = Budget({"new": (1, 100.0, 100.0, 0), "old": (1, 100.0, 100.0, 500)})
    assert budget.expected_gain_us("old", 8) < budget.expected_gain_us("new", 8) / 10


def test_a_kernel_whose_candidates_take_long_must_win_more() -> None:
    budget = of(quick=(1, 100.0), long=(1, 100.0))
    learn(budget, "quick", [100.0] * 4, 1.0)
    learn(budget, "long", [100.0] * 4, 10.0)
    assert budget.next(8, {"quick", "long"}) == "quick"
    assert budget.expected_gain_us("quick", 8) == budget.expected_gain_us("long", 8)


def test_without_gains_the_promise_falls_below_any_threshold() -> None:
    budget = of(a=(1, 100.0))
    promises = []
    for _ in range(40):
        learn(budget, "a", [120.0] * 8, 4.0)
        promises.append(budget.gain_per_minute(8, {"a"}))
    assert promises == sorted(promises, reverse=True)
    assert promises[0] > 0.1
    assert promises[-1] < 0.002
    assert budget.gain_per_minute(8, set()) == 0.0
