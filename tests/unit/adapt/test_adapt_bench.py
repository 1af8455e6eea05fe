"""The arithmetic of the adaptation benchmark: weather, arrivals, steps of speed, and who missed how much."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from adapt_scenes import LADDER, contended_trace

from tests.bench.adapt import judging
from tests.bench.adapt.lab import arrivals
from tests.bench.adapt.settings import WEATHER, Kind
from tests.bench.adapt.weather import FLIP_SLOTS, SKIES, dilation
from tests.bench.outcome import Outcome


def test_every_kind_of_weather_has_a_maker():
    made = set(SKIES) | {"natural", "request-bursts"} | {k.name for k in WEATHER if _dilates(k)}
    assert {kind.name for kind in WEATHER} == made


def _dilates(kind: Kind) -> bool:
    return any(dilation(kind.name, slot, 60) > 1.0 for slot in range(60))


def test_the_ramp_rises_to_two_and_a_half_and_falls_again():
    ramp = [dilation("thermal-ramp", slot, 300) for slot in range(301)]
    assert (ramp[0], max(ramp), ramp[-1]) == (1.0, 2.5, 1.0)
    assert max(abs(a - b) for a, b in pairwise(ramp)) < 0.02


def test_the_flip_turns_every_few_requests():
    flips = [dilation("flip", slot, 300) for slot in range(300)]
    turns = [slot for slot, (a, b) in enumerate(pairwise(flips), start=1) if a != b]
    assert turns == list(range(FLIP_SLOTS, 300, FLIP_SLOTS))


def test_requests_come_at_a_quarter_and_at_half_of_what_the_largest_rung_can_take():
    times = arrivals(7, 4000, 2000.0)
    assert times == arrivals(7, 4000, 2000.0)
    gaps = [b - a for a, b in pairwise(times)]
    assert min(gaps) > 0.0
    assert statistics.fmean(gaps) == pytest.approx(0.006, rel=0.1)  # the mean of 8 and 4 ms


def test_a_step_matters_only_where_the_policy_has_to_move():
    assert judging.step_requests(LADDER, 6000.0) <= 4
    assert judging.step_requests(LADDER, 100_000.0) is None
    assert judging.step_requests(LADDER, 6000.0, "static-large") is None


def passed(**lane):
    trace = contended_trace(3, slots=80)
    live = {"rungs": [4] * 80, "late": [False] * 80, "moves": [], "decision_us": [1.0] * 80, **lane}
    record = {
        "deadline_us": 9500.0,
        "unavailable": "",
        "lanes": {"two-channel": live, "alert": live, "static-large": live},
    }
    return judging.Pass("toy", "natural", trace, record)


def test_a_live_lane_that_its_replay_does_not_explain_is_told():
    rows = {row["policy"]: row for row in judging.live_rows(passed())}
    assert rows["static-large"]["effective_accuracy"] == pytest.approx(LADDER[4].accuracy)
    late = {row["policy"]: row for row in judging.live_rows(passed(late=[True] * 80))}
    assert late["static-large"]["live_minus_replay_points"] < -50.0
    assert (late["static-large"]["reproduced"], late["static-large"]["overlaps_ours"]) == (False, True)


def test_misses_are_compared_only_where_alert_misses():
    found = judging.cells(passed(), ("two-channel", "alert"))
    alert = [cell.score.miss_rate for cell in found if cell.score.policy == "alert"]
    ours = [cell.score.miss_rate for cell in found if cell.score.policy == "two-channel"]
    hard = [k for k, rate in enumerate(alert) if rate >= 0.01]
    assert judging.miss_ratio(found) == pytest.approx(sum(ours[k] for k in hard) / sum(alert[k] for k in hard))
    assert judging.miss_ratio([cell for cell in found if cell.score.policy == "two-channel"]) is None


def test_every_target_is_declared_and_one_that_was_not_measured_is_not_met():
    outcome = Outcome("test", "quick")
    for target in judging.TARGETS:
        outcome.target(target.name, target.wording)
    judging.judge_passes(outcome, [], asked=9)
    assert set(outcome.met.values()) == {False}
