"""AutoTailor's predictor against a machine that does what it assumes."""

from __future__ import annotations

import dataclasses

import pytest

from tailorbird.predict import AutoTailor
from tailorbird.profile import KernelTable, KernelTime
from tailorbird.profile.fusion import adjacent, unfused
from tailorbird.types import Config, KernelSpec, Verdict

CONV = KernelSpec("conv2d", 32, 32, 16, 16, (3, 3), (1, 1), (1, 1), "relu")
LAST = dataclasses.replace(CONV, activation="")
TINY = KernelSpec("pool", 32, 32, 16, 16, pool_mode="mean")


def kernels(config: Config) -> tuple[KernelSpec, ...]:
    size = dict(config.sizes).get("w", 32)
    return (
        dataclasses.replace(CONV, out_channels=size),
        dataclasses.replace(LAST, in_channels=size),
        TINY,
    )


def time_us(spec: KernelSpec) -> float:
    return {"conv2d": spec.out_channels * spec.in_channels / 10, "activation": 20.0, "pool": 1.0}[spec.op]


OPERATIONS = {spec for w in (16, 32) for spec in unfused(kernels(Config.of({"w": w})))}
TABLE = KernelTable("d", "litert", {s: KernelTime(time_us(s), 0.0, Verdict.OK) for s in OPERATIONS}, {})
PAIRS = {pair for w in (16, 32) for pair in adjacent(unfused(kernels(Config.of({"w": w}))))}


def pair_us(saved: float) -> dict:
    """Times of pairs in which a rectifier saves this share of itself, and nothing else saves anything."""
    return {(a, b): time_us(a) + time_us(b) - (saved * time_us(b) if b.op == "activation" else 0.0) for a, b in PAIRS}


def test_fused_operations_are_dropped_and_small_kinds_left_out():
    model = AutoTailor(TABLE, pair_us(1.0), kernels)
    assert model.fused == {("conv2d", "relu")}
    assert model.dominant == {"conv2d"}
    assert model(Config()) == pytest.approx(2 * 32 * 32 / 10)


def test_what_saves_less_than_four_fifths_is_summed():
    model = AutoTailor(TABLE, pair_us(0.7), kernels, full=Config.of({"w": 16}))
    assert model.fused == frozenset()
    assert model.dominant == {"conv2d", "relu"}
    assert model(Config.of({"w": 16})) == pytest.approx(2 * 16 * 32 / 10 + 20)


def test_noise_hides_a_fusion():
    noisy = dataclasses.replace(
        TABLE, times={spec: dataclasses.replace(time, mad_us=100.0) for spec, time in TABLE.times.items()}
    )
    assert AutoTailor(noisy, pair_us(1.0), kernels).fused == frozenset()


def test_an_operation_that_is_not_in_the_table_is_named():
    with pytest.raises(ValueError, match=r"24.* is not in the table of operations"):
        AutoTailor(TABLE, pair_us(1.0), kernels)(Config.of({"w": 24}))
