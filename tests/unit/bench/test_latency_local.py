"""The latency benchmark's own arithmetic."""

from __future__ import annotations

import pytest

from tests.bench.latency_local.__main__ import _ERROR_TARGETS, _SAVING_TARGETS, _settle
from tests.bench.latency_local.judging import errors
from tests.bench.latency_local.settings import CONTEXTS, FULL, NETWORKS, QUICK
from tests.bench.outcome import Outcome

GOOD = {"mape": 3.0, "within10": 99.0, "srcc": 0.99}
COST = {saving: 20.0 for _, saving in _SAVING_TARGETS} | {"subnets_measured": 120, "entries_measured": 150}


def row(**changes) -> dict:
    predictors = {predictor: dict(GOOD) for _, predictor, *_ in _ERROR_TARGETS}
    return {"held_out": 100, "predictors": predictors, "cost": dict(COST)} | changes


def settled(*rows: dict, complete: bool = True) -> dict[str, bool]:
    outcome = Outcome("test", "quick")
    for name, *_ in (*_ERROR_TARGETS, *_SAVING_TARGETS):
        outcome.target(name, "")
    outcome.figures = {str(index): one for index, one in enumerate(rows)}
    _settle(outcome, complete=complete)
    return outcome.met


def test_errors_are_percentages_within_a_tenth_and_rank_correlation():
    found = errors([105, 200, 360], [100, 200, 300])
    assert found["mape"] == pytest.approx((5 + 0 + 20) / 3, abs=1e-2)
    assert found["within10"] == pytest.approx(100 * 2 / 3, abs=1e-2)
    assert found["srcc"] == 1.0


def test_all_contexts_have_to_hold():
    assert all(settled(row(), row()).values())
    bad = row()
    bad["predictors"]["kernel sum + 10"] = GOOD | {"mape": 5.1}
    met = settled(row(), bad)
    assert [name for name, holds in met.items() if not holds] == ["kernel sum + 10 samples: mape <= 5"]


@pytest.mark.parametrize("missing", [{"held_out": 99}, {"predictors": {}}])
def test_what_was_not_measured_is_not_met(missing: dict):
    assert not any(settled(row(), row(**missing))[name] for name, *_ in _ERROR_TARGETS)


def test_a_part_of_the_suite_meets_nothing():
    assert not any(settled(row(), complete=False).values())
    assert not any(settled().values())


def test_costs_need_a_hundred_measured_entries():
    few = settled(row(cost=COST | {"entries_measured": 99}))
    assert not any(few[name] for name, _ in _SAVING_TARGETS)
    assert settled(row())["kernel sum + 10 samples: mape <= 5"]


def test_suites_name_networks_and_contexts_that_exist_and_judge_by_a_hundred_subnets():
    for suite in (QUICK, FULL):
        assert suite.held_out >= 100
        assert suite.pool >= 20
        assert all(net in NETWORKS and context in CONTEXTS for net, context in suite.contexts)
