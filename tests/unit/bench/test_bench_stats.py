"""Verdicts accuse what is guilty and nobody else."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.bench.stats import drift, judge, median_absolute_deviation, trend_p_value, wait_share

times = st.lists(st.floats(1.0, 1e6), min_size=1, max_size=60)
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
