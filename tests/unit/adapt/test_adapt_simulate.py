import json

import pytest
from adapt_scenes import LADDER, contended_trace

from tailorbird_agent.adapt import Cause, RungProfile, make_ladder, make_policy
from tailorbird_agent.adapt.simulate import (
    REFERENCE_NAMES,
    Bars,
    block_bootstrap,
    compare,
    foresee,
    replay,
    static_accuracies,
)
from tailorbird_agent.adapt.static import Static
from tailorbird_agent.adapt.trace import SCHEMA, Trace, parse_trace, trace_document

TWO = make_ladder([RungProfile("s", 0.5, 1000.0), RungProfile("l", 1.0, 2000.0)])


def tiny(walls):
    rows = tuple(tuple(map(float, row)) for row in walls)
    return Trace(TWO, 0.1, tuple(0.1 * i for i in range(len(rows))), rows, rows)


def test_references_are_what_can_be_counted_by_hand():
    trace = tiny([(1000, 2000), (1000, 9000), (1000, 2000), (9000, 9000)])
    assert static_accuracies(trace, 3000.0) == (0.375, 0.5)
    bars = Bars.of(trace, 3000.0)
    assert (bars.best_static.rungs, bars.best_static.effective_accuracy) == ((1, 1, 1, 1), 0.5)
    assert foresee(trace, 3000.0, 2, "pairs").effective_accuracy == pytest.approx((1.0 + 1.0) / 4)
    assert bars.clairvoyant.effective_accuracy == pytest.approx((1.0 + 0.5 + 1.0 + 0.0) / 4)
    assert bars.clairvoyant.rungs[:3] == (1, 0, 1)
    assert [switch.to_name for switch in bars.clairvoyant.switches[:2]] == ["s", "l"]
    assert (bars.best_static.misses, bars.clairvoyant.misses) == (2, 1)


def test_a_request_that_finds_the_device_busy_queues_and_its_deadline_runs():
    rows = ((1000.0, 2000.0),) * 4
    trace = Trace(TWO, 0.001, (0.0, 0.001, 0.002, 0.010), rows, rows)
    assert static_accuracies(trace, 2500.0) == (0.5, 0.5)  # the large rung queues 0, 1, 2 and 0 ms
    assert static_accuracies(trace, 3000.0) == (0.5, 0.75)
    told = []

    class Watching(Static):
        def choose(self, deadline_us, cap, now_s, cap_cause=Cause.OPERATOR, queued_us=0.0):
            told.append(queued_us)
            return super().choose(deadline_us, cap, now_s, cap_cause, queued_us)

    assert replay(Watching("watching", TWO, 1), trace, 3000.0).misses == 1
    assert told == pytest.approx([0.0, 1000.0, 2000.0, 0.0])


def test_the_references_of_a_comparison_come_last_and_bound_it():
    scores = {score.policy: score for score in compare(contended_trace(2), 7000.0)}
    assert tuple(scores)[-3:] == REFERENCE_NAMES
    static, segment, clairvoyant = (scores[name].effective_accuracy for name in REFERENCE_NAMES)
    assert static <= segment <= clairvoyant
    assert scores["best-static"].percent_of_best_static == 100.0
    assert scores["segment-oracle"].percent_of_segment_oracle == 100.0
    assert all(score.effective_accuracy <= clairvoyant for score in scores.values())


def test_a_static_replay_equals_the_static_reference():
    trace = contended_trace(1)
    for index, accuracy in enumerate(static_accuracies(trace, 9500.0)):
        run = replay(make_policy(f"static:r{index}", LADDER), trace, 9500.0)
        assert run.effective_accuracy == pytest.approx(accuracy)
        assert run.misses == sum(row[index] > 9500.0 for row in trace.wall_us)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("deadline_us", [7000.0, 9500.0])
def test_two_channel_beats_threshold_and_both_ends_of_the_ladder_under_interference(seed, deadline_us):
    scores = {score.policy: score for score in compare(contended_trace(seed), deadline_us)}
    ours = scores["two-channel"]
    for other in ("threshold", "static-large", "static-small"):
        assert ours.effective_accuracy > scores[other].effective_accuracy, other
    # Independent Poisson waits suit ALERT's filter; it pays with misses and switches, not with effective accuracy.
    alert = scores["alert"]
    assert ours.effective_accuracy > alert.effective_accuracy - 0.005
    assert ours.miss_rate < alert.miss_rate < scores["threshold"].miss_rate
    assert 5.0 * ours.switches_per_1000 < alert.switches_per_1000
    assert ours.switches_per_1000 <= 40.0
    assert ours.percent_of_segment_oracle > 95.0
    for name in ("effective_accuracy", "percent_of_segment_oracle", "miss_rate", "switches_per_1000"):
        low, high = getattr(ours.intervals, name)
        assert low <= getattr(ours, name) <= high, name
    assert ours.percent_of_best_static > 99.0
    assert scores["static-large"].percent_of_best_static < 100.0


def test_where_no_rung_can_be_on_time_nothing_was_missed():
    score, *_ = compare(tiny([(1000, 2000)]), 10.0, ["static-small"])
    assert (score.percent_of_segment_oracle, score.percent_of_best_static, score.miss_rate) == (100.0, 100.0, 1.0)


def test_caps_per_slot_are_obeyed_in_a_replay():
    trace = contended_trace(1, slots=40)
    caps = [1] * 20 + [4] * 20
    run = replay(make_policy("two-channel", LADDER), trace, 20000.0, caps)
    assert max(run.rungs[:20]) == 1
    assert run.rungs[-1] == 4


def test_the_bootstrap_interval_is_reproducible_and_holds_the_mean():
    rows = [(float(i % 7 == 0), float(i % 3 == 0)) for i in range(400)]

    def figures(sums, count):
        return sums[0] / count, sums[0] / sums[1]

    mean, ratio = block_bootstrap(rows, figures)
    assert [mean, ratio] == block_bootstrap(rows, figures)
    totals = [sum(column) for column in zip(*rows, strict=True)]
    assert mean.low < totals[0] / 400 < mean.high
    assert ratio.low < totals[0] / totals[1] < ratio.high


def test_a_trace_survives_its_file_format():
    trace = contended_trace(1, slots=5)
    again = parse_trace(json.loads(json.dumps(trace_document(trace))))
    assert [rung.name for rung in again.ladder] == [rung.name for rung in trace.ladder]
    assert [rung.cpu_us for rung in again.ladder] == pytest.approx([rung.cpu_us for rung in trace.ladder])
    tenth_us = 0.051  # what the file's rounding may change
    assert again.at_s == pytest.approx(trace.at_s, abs=1e-5)
    assert again.wall_us[3] == pytest.approx(trace.wall_us[3], abs=tenth_us)
    assert again.cpu_us[3] == pytest.approx(trace.cpu_us[3], abs=tenth_us)


ROW = {"t_s": 0.0, "wall_ms": [4.5, 1.5], "cpu_ms": [4.0, 1.0]}


def document(**changes):
    good = {
        "schema": SCHEMA,
        "period_s": 0.1,
        "variants": [{"name": "l", "accuracy": 0.9, "cpu_ms": 4.0}, {"name": "s", "accuracy": 0.7, "cpu_ms": 1.0}],
        "rows": [ROW],
    }
    return {**good, **changes}


def test_columns_follow_the_ladder_not_the_file():
    trace = parse_trace(document())
    assert [rung.name for rung in trace.ladder] == ["s", "l"]
    assert trace.wall_us == ((1500.0, 4500.0),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "tailorbird.trace/9"}, "schema"),
        ({"rows": []}, "at least one row"),
        ({"rows": [{"t_s": 0.0, "wall_ms": [1.0], "cpu_ms": [1.0]}]}, "1 times for 2 variants"),
        ({"rows": [{"t_s": 0.0, "wall_ms": [1.0, 2.0]}]}, "cpu_ms"),
        ({"rows": [{"t_s": 0.0, "wall_ms": [1.0, -2.0], "cpu_ms": [1.0, 2.0]}]}, "negative"),
        ({"rows": [{**ROW, "t_s": 1.0}, ROW]}, "go back"),
        ({"variants": None}, "wrong type"),
        ({"rows": [7]}, "wrong type"),
    ],
)
def test_a_damaged_trace_is_refused_with_the_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_trace(document(**changes))
