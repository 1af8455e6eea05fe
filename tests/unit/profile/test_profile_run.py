"""Profiling through a real agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.db import Store
from tailorbird.device import Device
from tailorbird.profile import KernelTable, profile_device, profile_kernels, profile_subnets
from tailorbird.types import KERNEL, Candidate, Config, KernelSpec

BRIEF = dataclasses.replace(KERNEL, min_seconds=0.005, max_seconds=0.5)
SMALL = KernelSpec("conv2d", 8, 8, 16, 16, (3, 3), (1, 1), (1, 1), "relu")
LARGE = dataclasses.replace(SMALL, in_channels=64, out_channels=64)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


def profile(device: Device, store: Store, build=single_op_candidate, specs=(SMALL, LARGE)) -> KernelTable:
    return profile_kernels(device, list(specs), build, store=store, protocol=BRIEF)


def test_more_work_takes_more_time(device: Device, store: Store):
    table = profile(device, store)
    assert table.failures == {}
    assert 0 < table.times[SMALL].cpu_us < table.times[LARGE].cpu_us


def test_a_second_run_measures_nothing(device: Device, store: Store):
    def forbidden(spec: KernelSpec) -> Candidate:
        raise AssertionError(f"{spec.label} was built although it is stored")

    first = profile(device, store)
    assert profile(device, store, forbidden) == first


def test_only_what_is_missing_is_measured(device: Device, store: Store):
    built: list[KernelSpec] = []

    def build(spec: KernelSpec) -> Candidate:
        built.append(spec)
        return single_op_candidate(spec)

    profile(device, store, specs=[SMALL])
    table = profile(device, store, build)
    assert set(built) == {LARGE}
    assert set(table.times) == {SMALL, LARGE}


def test_a_kernel_that_fails_is_reported_and_tried_again(device: Device, store: Store):
    def broken(spec: KernelSpec) -> Candidate:
        made = single_op_candidate(spec)
        return made if spec == SMALL else dataclasses.replace(made, module=made.module[: len(made.module) // 2])

    table = profile(device, store, broken)
    assert set(table.times) == {SMALL}
    assert table.failures[LARGE]
    assert set(profile(device, store).times) == {SMALL, LARGE}


def test_the_same_configuration_of_another_model_is_another_subject(device: Device, store: Store):
    config = Config()

    def median_us(model: str, spec: KernelSpec) -> float:
        def build(_: Config) -> Candidate:
            return single_op_candidate(spec)

        return profile_subnets(device, model, [config], build, store=store, protocol=BRIEF)[config].cpu_median_us

    assert median_us("a", SMALL) < median_us("b", LARGE)


def test_progress_counts_what_was_stored(device: Device, store: Store):
    seen: list[tuple[int, int]] = []
    profile(device, store, specs=[SMALL])
    profile_kernels(
        device, [SMALL, LARGE], single_op_candidate, store=store, protocol=BRIEF, on_progress=lambda *p: seen.append(p)
    )
    assert seen == [(1, 2), (2, 2)]


def test_figures_of_the_device_are_measured_once(device: Device, store: Store):
    first = profile_device(device, store=store, names=["stream-triad"], protocol=BRIEF)
    assert [figure.name for figure in first] == ["stream-triad"]
    assert first[0].value > 0
    assert profile_device(device, store=store, names=["stream-triad"], protocol=BRIEF) == first
