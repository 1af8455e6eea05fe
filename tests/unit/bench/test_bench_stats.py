"""Verdicts accuse what is guilty and nobody else."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.bench.stats import Evidence, Verdict, drift, median_absolute_deviation, trend_p_value, wait_share
from tailorbird_agent.bench.stats import judge as judge_evidence

times = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=60)


def judge(wall, cpu, *looks, **others) -> Verdict:
    return judge_evidence(Evidence(wall, cpu, looks, **others))


CLEAN = [100.0 + 0.01 * (i * 7 % 11) for i in range(60)]


@settings(deadline=None)
@given(times, st.floats(0.1, 100.0))
def test_spread_and_drift_do_not_depend_on_the_unit(samples, scale) -> None:
    scaled = [sample * scale for sample in samples]
    assert median_absolute_deviation(scaled) == pytest.approx(scale * median_absolute_deviation(samples), rel=1e-6)
    assert drift(scaled) == pytest.approx(drift(samples), rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(times)
def test_the_spread_is_at_most_half_the_samples_away(samples) -> None:
    spread, middle = median_absolute_deviation(samples), statistics.median(samples)
    assert sum(abs(sample - middle) <= spread * (1 + 1e-12) for sample in samples) * 2 >= len(samples)


@settings(deadline=None)
@given(times)
def test_a_p_value_is_a_probability_and_blind_to_direction(samples) -> None:
    p = trend_p_value(samples)
    assert 0.0 <= p <= 1.0
    if len(samples) <= 60:
        assert p == pytest.approx(trend_p_value(samples[::-1]), abs=1e-9)


def test_a_trend_is_significant_and_shuffled_it_is_not() -> None:
    samples = [100.0 + i for i in range(200)]
    assert trend_p_value(samples) < 1e-6
    random.Random(0).shuffle(samples)
    assert trend_p_value(samples) > 0.01


def test_clean_samples_are_ok() -> None:
    assert judge(CLEAN, CLEAN, {}, {}).name == "ok"


def test_waiting_inflates_the_wall_clock_alone() -> None:
    verdict = judge([wall * 1.2 for wall in CLEAN], CLEAN, {}, {})
    assert verdict.name == "contended"
    assert verdict.reason == "off the CPU for 17% of the time"
    assert wait_share(CLEAN, CLEAN) == 0.0


def test_a_wide_spread_is_noisy() -> None:
    cpu = [100.0 + 10.0 * (i % 2) for i in range(60)]
    verdict = judge(cpu, cpu, {}, {})
    assert verdict.name == "noisy"
    assert "spread" in verdict.reason


def test_a_drift_is_unstable_unless_it_is_small() -> None:
    heating = [100.0 + 0.2 * i for i in range(60)]
    assert judge(heating, heating, {}, {}).name == "unstable"
    creeping = [100.0 + 0.01 * i for i in range(60)]
    assert judge(creeping, creeping, {}, {}).name == "ok"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"frequency_hz": 2.0e9}, {"frequency_hz": 1.5e9}, "fell from 2000 to 1500 MHz"),
        ({"throttled": 0.0}, {"throttled": 1.0}, "reports throttling"),
        ({"throttle_count": 3.0}, {"throttle_count": 5.0}, "2 throttling events"),
        ({"frequency_limit_hz": 1.8e9}, {"frequency_limit_hz": 1.0e9}, "limit fell from 1800 to 1000 MHz"),
        ({"under_voltage": 0.0}, {"under_voltage": 1.0}, "under-voltage"),
    ],
)
def test_a_slower_clock_is_throttled(before, after, words) -> None:
    verdict = judge(CLEAN, CLEAN, before, after)
    assert verdict.name == "throttled"
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({}, {"steal_share": 0.1}, "hypervisor took 10%"),
        ({"cpu_throttled_count": 1.0}, {"cpu_throttled_count": 4.0}, "stopped it 3 times"),
        ({}, {"cpu_some_avg10_percent": 34.0}, "tasks waited for a CPU in 34% of the last 10 s"),
    ],
)
def test_others_that_take_the_cpu_make_it_contended(before, after, words) -> None:
    verdict = judge(CLEAN, CLEAN, before, after)
    assert verdict.name == "contended"
    assert words in verdict.reason


@pytest.mark.parametrize("absent", [{}, {"frequency_hz": None, "throttled": None, "steal_share": None}])
def test_absent_sensors_accuse_nobody(absent) -> None:
    assert judge(CLEAN, CLEAN, absent, absent).name == "ok"
    assert judge(CLEAN, CLEAN, absent, {"frequency_hz": 1e9, "throttle_count": 9.0}).name == "ok"


def test_the_worst_verdict_wins_and_all_reasons_are_told() -> None:
    cpu = [100.0 + 10.0 * (i % 2) for i in range(60)]
    verdict = judge([2 * sample for sample in cpu], cpu, {"throttled": 1.0}, {})
    assert verdict.name == "throttled"
    assert [word in verdict.reason for word in ("throttling", "spread", "off the CPU")] == [True] * 3
    assert verdict.names == ("throttled", "noisy", "contended")


def test_a_clock_that_dips_between_two_looks_is_throttled() -> None:
    fast, slow = {"frequency_hz": 2.0e9}, {"frequency_hz": 1.2e9}
    assert judge(CLEAN, CLEAN, fast, slow, fast).name == "throttled"


def test_a_reference_kernel_that_drifts_marks_the_batch() -> None:
    verdict = judge(CLEAN, CLEAN, {}, {}, reference_drifts=[0.01, -0.02, 0.051, 0.0])
    assert verdict.name == "unstable"
    assert verdict.reason == "the reference kernel took +5.1% against its usual time"
    assert judge(CLEAN, CLEAN, {}, {}, reference_drifts=[0.029, -0.029]).name == "ok"


def test_preemption_is_contention_when_it_is_frequent() -> None:
    assert judge(CLEAN, CLEAN, {}, switches=300, elapsed_s=2.0).reason == "the scheduler took the CPU away 300 times"
    assert judge(CLEAN, CLEAN, {}, switches=90, elapsed_s=2.0).name == "ok"
    assert judge(CLEAN, CLEAN, {}, switches=40, elapsed_s=0.01).name == "ok"  # a few, however brief the measurement


def test_queueing_is_told_from_sleeping() -> None:
    wall = [1.5 * cpu for cpu in CLEAN]
    assert judge(wall, CLEAN, {}, delay_us=[0.1 * cpu for cpu in CLEAN]).reason == (
        "off the CPU for 33% of the time, 7% ready and waiting for one"
    )
    # Threads of a pool sleep while there is nothing to do: that is no contention.
    assert judge(wall, CLEAN, {}, delay_us=[0.0] * len(CLEAN), threads=2).name == "ok"


def test_the_cpu_time_of_several_threads_is_spoiled_when_they_wait() -> None:
    verdict = judge(CLEAN, CLEAN, {}, delay_us=[0.4 * cpu for cpu in CLEAN], threads=2)
    assert verdict.name == "noisy"
    assert "2 threads waited for a CPU" in verdict.reason
    assert judge(CLEAN, CLEAN, {}, delay_us=[0.4 * cpu for cpu in CLEAN], threads=1).name != "noisy"


def test_constant_times_are_ok_and_times_of_nothing_are_not() -> None:
    assert judge([5.0] * 100, [5.0] * 100, {}).name == "ok"
    assert judge([5.0] * 100, [0.0] * 100, {}).name == "noisy"
    assert drift([0.0] * 9) == 0.0
