"""Drift: each subnet against its own baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tailorbird.predict.drift import Shift, Timed, context_change, find_drift, sentinels
from tailorbird.types import Config, Context, Measurement

CONFIGS = [Config.of({"a": n}) for n in range(5)]
CONTEXT = Context("pi", "litert", "2.3", 1, "kernel=6 governor=performance")


def taken(scales, seed: int = 0, noise: float = 0.02, runs: int = 60) -> dict[Config, Timed]:
    """Medians of noisy runs: subnet n takes 100 (n + 1) us, times its scale."""
    rng = np.random.default_rng(seed)
    return {
        config: Timed.of(Measurement("s", (), tuple(100 * (n + 1) * scale * rng.normal(1, noise, runs))))
        for n, (config, scale) in enumerate(zip(CONFIGS, scales, strict=True))
    }


def test_a_device_that_does_not_change_raises_no_alarm():
    same = [1.0] * 5
    verdicts = [find_drift(taken(same, 2 * n), taken(same, 2 * n + 1, noise=0.03)).shift for n in range(200)]
    assert set(verdicts) == {Shift.NOTHING}


@pytest.mark.parametrize("scale", [1.1, 0.8, 1.9])
def test_a_shift_of_all_is_uniform_and_gives_its_scale(scale):
    found = find_drift(taken([1.0] * 5), taken([scale] * 5, seed=1))
    assert found.shift is Shift.UNIFORM
    assert found.scale == pytest.approx(scale, rel=0.02)


@pytest.mark.parametrize("runs", [2, 3])
def test_two_or_three_subnets_are_enough_for_a_scale(runs):
    then = dict(list(taken([1.0] * 5).items())[:runs])
    found = find_drift(then, taken([1.3] * 5, seed=1))
    assert found.shift is Shift.UNIFORM
    assert found.scale == pytest.approx(1.3, rel=0.02)


def test_a_shift_that_depends_on_the_subnet_is_no_scale():
    found = find_drift(taken([1.0] * 5), taken([1.0, 1.05, 1.2, 1.4, 1.5], seed=1))
    assert (found.shift, found.scale) == (Shift.KERNEL_MIX, 1.0)
    assert "measure anew" in found.reason


def test_noise_that_hides_a_shift_is_not_taken_for_one():
    noisy = taken([1.05] * 5, seed=1, noise=0.5, runs=8)
    assert find_drift(taken([1.0] * 5), noisy).shift is Shift.NOTHING


def test_disturbed_measurements_tell_no_small_shift():
    def disturbed(scale: float, seed: int) -> dict[Config, Timed]:
        return {config: replace(timed, quiet=False) for config, timed in taken([scale] * 5, seed).items()}

    assert find_drift(taken([1.0] * 5), disturbed(1.15, 1)).shift is Shift.NOTHING
    assert find_drift(taken([1.0] * 5), disturbed(1.6, 1)).shift is Shift.UNIFORM


def test_one_common_subnet_tells_nothing():
    then = dict(list(taken([1.0] * 5).items())[:1])
    assert find_drift(then, taken([2.0] * 5)).shift is Shift.UNKNOWN


def test_another_kernel_or_power_mode_is_another_context_not_a_drift():
    for change in ({"system": "kernel=7 governor=performance"}, {"runtime_version": "2.4"}, {"threads": 2}):
        found = context_change(CONTEXT, replace(CONTEXT, **change))
        assert found is not None
        assert (found.shift, found.scale) == (Shift.CONTEXT, 1.0)
        assert str(*change.values()) in found.reason
    assert context_change(CONTEXT, CONTEXT) is None


def test_sentinels_span_all_times():
    times = {config: float(n) for n, config in enumerate(CONFIGS)}
    assert list(sentinels(times)) == [CONFIGS[0], CONFIGS[2], CONFIGS[4]]
    assert list(sentinels(dict(list(times.items())[:2]))) == CONFIGS[:2]


def test_a_failed_measurement_is_no_baseline():
    with pytest.raises(ValueError, match="no timings"):
        Timed.of(Measurement("s", error="it crashed"))
