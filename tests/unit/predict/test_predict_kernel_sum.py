"""Predictors against times with a known law."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.errors import UsageError
from tailorbird.predict import KernelInterpolator, KernelSum, PredictionError, Sample, interpolation_error
from tailorbird.profile import FusionRule, Fusions, KernelTable, KernelTime
from tailorbird.types import Config, KernelSpec, Verdict

CONV = KernelSpec("conv2d", 8, 8, 16, 16, (3, 3), (1, 1), (1, 1), "relu")


def conv(inputs: int, outputs: int) -> KernelSpec:
    return dataclasses.replace(CONV, in_channels=inputs, out_channels=outputs)


def alone_us(spec: KernelSpec) -> float:
    """A kernel timed alone: a call of 3 us, traffic and arithmetic."""
    return 3 + 0.1 * spec.in_channels + 0.2 * spec.out_channels + 0.01 * spec.in_channels * spec.out_channels


def chain(config: Config) -> tuple[KernelSpec, ...]:
    """A network of convolutions: one per configured size."""
    widths = [3, *(size for _, size in config.sizes)]
    return tuple(conv(a, b) for a, b in itertools.pairwise(widths))


def subnet(*widths: int) -> Config:
    return Config.of({f"w{index}": width for index, width in enumerate(widths)})


SUBNETS = [subnet(8), subnet(16, 32), subnet(64, 64, 64), subnet(8, 8, 8, 8), subnet(32, 64), subnet(64, 8, 64, 8)]


def table(specs) -> KernelTable:
    return KernelTable("d", "litert", {s: KernelTime(alone_us(s), 0.0, Verdict.OK) for s in specs}, {})


FULL_TABLE = table({spec for config in [*SUBNETS, subnet(16, 16), subnet(32, 32, 8)] for spec in chain(config)})


@given(st.floats(0.5, 2.0), st.floats(0, 2.0), st.floats(0, 50.0))
def test_calibration_finds_the_law_it_assumes(scale: float, call: float, offset: float):
    def true_us(config: Config) -> float:
        specs = chain(config)
        return scale * sum(map(alone_us, specs)) - call * len(specs) + offset + 1

    samples = [Sample(config, true_us(config)) for config in SUBNETS]
    held_out = [Sample(config, true_us(config)) for config in (subnet(16, 16), subnet(32, 32, 8))]
    model = KernelSum(FULL_TABLE, chain).calibrated(samples, held_out)
    assert model.error is not None
    assert model.error.mape == pytest.approx(0, abs=1e-3)
    assert model(held_out[0].config) == pytest.approx(held_out[0].cpu_us, rel=1e-4)


def test_without_held_out_subnets_each_sample_is_left_out_in_turn():
    samples = [Sample(config, 2 * sum(map(alone_us, chain(config)))) for config in SUBNETS]
    samples[0] = dataclasses.replace(samples[0], cpu_us=samples[0].cpu_us * 3)
    model = KernelSum(FULL_TABLE, chain).calibrated(samples)
    assert model.error is not None
    assert model.error.samples == len(samples)
    assert model.error.mape > 10, "the outlier must not hide by having been fitted"


def test_one_sample_sets_the_scale():
    config = SUBNETS[2]
    model = KernelSum(FULL_TABLE, chain).calibrated([Sample(config, 500.0)])
    assert model.predict_us(config) == pytest.approx(500.0)
    assert model.error is None


def test_no_prediction_is_zero_or_less():
    samples = [Sample(config, 1e-3 + index * 50) for index, config in enumerate(SUBNETS)]
    model = KernelSum(FULL_TABLE, chain).calibrated(samples)
    assert all(model(config) > 0 for config in SUBNETS)


def test_calibrating_without_samples_is_refused():
    with pytest.raises(ValueError, match="no measured subnets"):
        KernelSum(FULL_TABLE, chain).calibrated([])


def test_what_was_measured_is_told_from_what_was_interpolated():
    config = subnet(8, 16)
    first, second = chain(config)
    model = KernelSum(table([first, conv(8, 8)]), chain)
    assert 0 < model.measured_share(config) < 1
    assert KernelSum(table([first, second]), chain).measured_share(config) == 1


def test_a_measured_kernel_keeps_its_time():
    times = {conv(8, 8): 5.0, conv(8, 64): 100.0}
    assert [KernelInterpolator(times)(spec) for spec in times] == [5.0, 100.0]


@given(st.integers(8, 64), st.integers(8, 64))
def test_kernels_of_a_measured_family_are_interpolated(inputs: int, outputs: int):
    times = {conv(a, b): alone_us(conv(a, b)) for a in (8, 32, 64) for b in (8, 32, 64)}
    spec = conv(inputs, outputs)
    assert KernelInterpolator(times)(spec) == pytest.approx(alone_us(spec), rel=1e-6)


def test_kernels_of_an_unknown_family_are_scaled_by_work():
    known = conv(32, 32)
    estimate = KernelInterpolator({known: 100.0})
    assert estimate(dataclasses.replace(known, height=32, width=32)) == pytest.approx(400, rel=0.05)


def test_an_empty_table_predicts_nothing():
    with pytest.raises(ValueError, match="no kernel was measured"):
        KernelInterpolator({})(CONV)


def test_errors_are_percentages_and_rank_correlation():
    error = PredictionError.of([110, 90, 300], [100, 100, 200])
    assert error.mape == pytest.approx((10 + 10 + 50) / 3)
    assert PredictionError.of([1, 2, 3], [10, 20, 30]).spearman == pytest.approx(1)
    assert PredictionError.of([3, 2, 1], [10, 20, 30]).spearman == pytest.approx(-1)
    assert PredictionError.of([1, 2], [1, 2]).spearman is None
    assert PredictionError.of([1, 2, 3], [5, 5, 5]).spearman is None


def test_what_a_module_of_its_own_costs_is_taken_off_each_kernel():
    config = subnet(8, 16)
    fusions = Fusions({}, call_us=1.0, copy_us_per_byte=0.0)
    plain = KernelSum(FULL_TABLE, chain).sum_us(config)
    assert KernelSum(FULL_TABLE, chain, fusions=fusions).sum_us(config) == pytest.approx(plain - 2 + 1)


def test_calibration_finds_a_cost_per_kernel_of_either_sign():
    for call in (-1.0, 1.0):
        samples = [Sample(c, 1.5 * sum(map(alone_us, chain(c))) + call * len(chain(c)) + 4) for c in SUBNETS]
        assert KernelSum(FULL_TABLE, chain).calibrated(samples).calibration.call_us == pytest.approx(call, abs=1e-3)


@given(st.sampled_from([0.0, 0.3]))
def test_the_error_of_interpolating_is_that_of_kernels_held_out(bump: float):
    members = [conv(a, b) for a in (8, 16, 24, 32, 48, 64) for b in (8, 16, 24, 32, 48, 64)]
    times = {s: alone_us(s) * (1 + bump * (s.out_channels % 16 == 8) * (s.in_channels % 16 == 8)) for s in members}
    error = interpolation_error(times, share=0.25)
    assert error is not None
    assert error.samples == 9
    assert (error.mape < 0.1) == (bump == 0)


def test_a_handful_of_kernels_has_no_interpolation_error():
    assert interpolation_error({conv(8, 8): 1.0}) is None


def test_few_noisy_samples_are_not_followed_into_corrections_that_are_not_there():
    noise = [0.03, -0.03, 0.02, -0.02, 0.03]
    samples = [
        Sample(config, sum(map(alone_us, chain(config))) * (1 + share))
        for config, share in zip(SUBNETS, noise, strict=False)
    ]
    calibration = KernelSum(FULL_TABLE, chain).calibrated(samples).calibration
    assert calibration.scale == pytest.approx(1, abs=0.05)
    assert calibration.call_us == 0
    assert calibration.offset_us == 0


FUSED = Fusions({("conv2d", "conv2d"): FusionRule(("conv2d", "conv2d"), fused=True, share=0.8, probes=3)}, 0.0, 0.0)


def fused_us(config: Config) -> float:
    """What a network takes on a device that runs every second convolution within the one before it."""
    times = [alone_us(spec) for spec in chain(config)]
    return sum(times) - 0.8 * sum(min(pair) for pair in list(itertools.pairwise(times))[::2])


def test_of_kernels_that_run_fused_is_taken_off_what_fusing_saves_once_for_each():
    for config in SUBNETS:
        assert KernelSum(FULL_TABLE, chain, fusions=FUSED).sum_us(config) == pytest.approx(fused_us(config))


def test_samples_decide_whether_the_fusion_probes_are_believed():
    fused = [Sample(config, fused_us(config)) for config in SUBNETS]
    plain = [Sample(config, sum(map(alone_us, chain(config)))) for config in SUBNETS]
    model = KernelSum(FULL_TABLE, chain, fusions=FUSED)
    assert model.calibrated(fused).fusions == FUSED
    contradicted = model.calibrated(plain)
    assert not (contradicted.fusions and contradicted.fusions.rules)
    for sample in plain:
        assert contradicted(sample.config) == pytest.approx(sample.cpu_us)


def test_a_subnet_measured_several_times_counts_once_and_is_not_held_out_from_itself():
    model = KernelSum(FULL_TABLE, chain)
    same = [Sample(SUBNETS[2], us) for us in (480.0, 500.0, 900.0)]
    found = model.calibrated(same, [Sample(SUBNETS[2], 500.0)])
    assert found(SUBNETS[2]) == pytest.approx(500.0)
    assert found.error is None, "nothing was left to judge it by"


def test_what_was_not_measured_is_left_out_and_what_is_no_time_is_refused():
    samples = [Sample(config, 2 * sum(map(alone_us, chain(config)))) for config in SUBNETS]
    model = KernelSum(FULL_TABLE, chain)
    found = model.calibrated([*samples, Sample(subnet(16, 16), math.nan)])
    assert found.error is not None
    assert found.error.samples == len(samples)
    for us in (0.0, -1.0, math.inf):
        with pytest.raises(UsageError, match="cannot take"):
            model.calibrated([*samples, Sample(subnet(16, 16), us)])


def test_subnets_that_all_take_the_same_time_have_no_order_and_no_error():
    found = KernelSum(FULL_TABLE, chain).calibrated([Sample(config, 5.0) for config in SUBNETS])
    assert found.error is not None
    assert found.error.spearman is None
    assert found(SUBNETS[0]) == pytest.approx(5.0)
