"""The arithmetic of the headline comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.equal_latency import headline
from tests.bench.equal_latency.compare import Standing, areas, compare, extremes, front, mean_accuracy, versus
from tests.bench.outcome import Outcome


def standing(name: str, accuracy: float, latency_us: float, validation: float | None = None) -> Standing:
    """As accurate on both sets of images unless said otherwise."""
    return Standing(name, accuracy if validation is None else validation, accuracy, latency_us)


STANDINGS = st.builds(
    standing, st.text(max_size=3), st.integers(0, 20).map(lambda n: n / 20), st.integers(1, 30).map(float)
)
SIDES = st.lists(STANDINGS, min_size=1, max_size=8)


def test_the_rung_at_a_latency_is_chosen_by_validation_and_reported_by_evaluation() -> None:
    ours = [standing("lucky", 0.95, 90.0, validation=0.80), standing("chosen", 0.88, 95.0, validation=0.90)]
    row = versus(ours, standing("point", 0.70, 100.0))
    assert row.gain_rung == "chosen"
    assert row.gain_points == pytest.approx(18.0)


def test_a_rung_slower_than_the_point_by_anything_does_not_count() -> None:
    row = versus([standing("slow", 0.99, 100.01)], standing("point", 0.70, 100.0))
    assert row.gain_points is None
    assert "100.0 us" in row.why_no_gain
    assert versus([standing("as slow", 0.99, 100.0)], standing("point", 0.70, 100.0)).gain_points == pytest.approx(29.0)


def test_equal_accuracy_must_hold_on_both_sets_of_images() -> None:
    ours = [
        standing("by luck", 0.90, 10.0, validation=0.60),
        standing("validated only", 0.60, 20.0, validation=0.90),
        standing("both", 0.85, 40.0, validation=0.85),
    ]
    row = versus(ours, standing("point", 0.80, 100.0))
    assert row.faster_rung == "both"
    assert row.latency_change_percent == pytest.approx(-60.0)
    assert versus(ours[:2], standing("point", 0.80, 100.0)).latency_change_percent is None


def test_a_point_that_beats_ours_is_reported_as_such() -> None:
    row = versus([standing("small", 0.5, 50.0), standing("big", 0.9, 200.0)], standing("point", 0.8, 100.0))
    assert row.gain_points == pytest.approx(-30.0)
    assert row.latency_change_percent == pytest.approx(100.0)


def test_without_a_rung_as_accurate_the_reason_names_the_best() -> None:
    row = versus([standing("best", 0.9, 10.0)], standing("point", 0.95, 100.0))
    assert row.latency_change_percent is None
    assert "90.00%" in row.why_no_change


@given(SIDES, STANDINGS, STANDINGS)
def test_another_rung_never_makes_ours_worse(ours: list[Standing], more: Standing, point: Standing) -> None:
    before, after = versus(ours, point), versus([*ours, more], point)
    assert after.gain_points is not None or before.gain_points is None
    assert (after.gain_points or 0) >= (before.gain_points or 0) or before.gain_points is None
    if before.latency_change_percent is not None:
        assert after.latency_change_percent is not None
        assert after.latency_change_percent <= before.latency_change_percent


def test_every_point_is_reported_and_the_extremes_leave_out_what_has_no_figure() -> None:
    ours = [standing("a", 0.8, 50.0), standing("b", 0.9, 100.0)]
    points = [standing("fast", 0.3, 10.0), standing("middle", 0.7, 60.0), standing("slow", 0.95, 120.0)]
    found = compare(ours, points)
    assert [row["point"] for row in found["points"]] == ["slow", "middle", "fast"]
    assert found["points_compared"] == {"all": 3, "at_equal_latency": 2, "at_equal_accuracy": 2}
    assert found["gain_points"] == {
        "max": pytest.approx(10.0),
        "median": pytest.approx(2.5),
        "min": pytest.approx(-5.0),
    }
    assert found["ours_more_accurate"] == 1
    assert extremes([]) is None


def test_the_front_is_chosen_by_validation() -> None:
    points = [standing("a", 0.9, 10.0, validation=0.5), standing("b", 0.4, 20.0, validation=0.6)]
    assert [p.name for p in front([*points, standing("c", 0.99, 30.0, validation=0.6)])] == ["a", "b"]


@settings(max_examples=40)
@given(SIDES)
def test_mean_accuracy_is_that_of_deadlines_drawn_evenly_on_a_logarithmic_scale(points: list[Standing]) -> None:
    low = min(p.latency_us for p in points)
    high = 2 * max(p.latency_us for p in points)
    deadlines = np.exp(np.linspace(math.log(low), math.log(high), 4001)[:-1] + 1e-9)
    answers = [max((p for p in points if p.latency_us <= d), key=lambda p: p.validation).evaluation for d in deadlines]
    assert mean_accuracy(points, low, high) == pytest.approx(float(np.mean(answers)), abs=0.01)


def test_areas_are_taken_where_both_sides_can_answer() -> None:
    ours, theirs = [standing("a", 0.5, 10.0), standing("b", 0.9, 40.0)], [standing("c", 0.6, 20.0)]
    found = areas(ours, theirs)
    assert found == {"from_us": 20.0, "to_us": 40.0, "ours": pytest.approx(0.5), "theirs": pytest.approx(0.6)}
    assert areas([standing("a", 0.5, 20.0)], theirs) is None
    with pytest.raises(ValueError, match="no network answers within 5 us"):
        mean_accuracy(ours, 5.0, 40.0)


def test_the_targets_are_judged_by_the_baselines_alone() -> None:
    row = compare([standing("a", 0.9, 10.0)], [standing("b", 0.5, 100.0)])
    weak = compare([standing("a", 0.9, 10.0)], [standing("b", 0.8, 12.0)])
    for method, figures, met in (("depth", row, True), ("original", row, False), ("depth", weak, False)):
        outcome = Outcome("schema", "quick")
        headline.declare(outcome)
        headline.judge(outcome, {"at_cpu_time": {method: figures}})
        assert set(outcome.met.values()) == {met}


def test_a_comparison_that_found_nothing_meets_no_target() -> None:
    outcome = Outcome("schema", "quick")
    headline.declare(outcome)
    headline.judge(outcome, {"at_cpu_time": {}})
    assert not any(outcome.met.values())


def test_people_get_a_line_for_every_point_and_every_baseline() -> None:
    ours = [standing("a", 0.9, 10.0)]
    found = {"at_cpu_time": {"depth": compare(ours, [standing("b", 0.5, 100.0), standing("c", 0.95, 5.0)])}}
    text = headline.table(found)
    assert "+40.0 points" in text
    assert "-90.0 %" in text
    assert len(text.splitlines()) == 4
