"""Profiling through a real agent."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird.compile.litert.single_op import chain_candidate, single_op_candidate
from tailorbird.db import MeasurementKey, Store
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import DeviceError
from tailorbird.profile import KernelTable, profile_chains, profile_device, profile_kernels, profile_subnets
from tailorbird.profile.run import _harm, _middle_of, kernel_subject
from tailorbird.profile.table import SECONDS, seconds_of
from tailorbird.types import KERNEL, Candidate, Config, KernelSpec, Measurement, Verdict

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


class Dropping(Device):
    """A device whose agent is killed once two results have arrived."""

    agent: LocalAgent

    def measure(self, *args, on_result=None, **options):
        arrived = []

        def take(index, measurement):
            on_result(index, measurement)
            arrived.append(index)
            if len(arrived) == 2:
                os.kill(self.agent.pid, signal.SIGKILL)

        return super().measure(*args, on_result=take, **options)


def test_a_device_that_drops_out_keeps_what_was_measured_and_goes_on_later(tmp_path: Path, store: Store):
    specs = [dataclasses.replace(SMALL, out_channels=8 * k) for k in range(1, 7)]
    agent = LocalAgent.start(tmp_path / "agent", name="frail")
    with Dropping.connect(agent.control) as frail:
        frail.agent = agent
        with pytest.raises(DeviceError):
            profile(frail, store, specs=specs)
    agent.stop()
    built: list[KernelSpec] = []

    def build(spec: KernelSpec) -> Candidate:
        built.append(spec)
        return single_op_candidate(spec)

    agent = LocalAgent.start(tmp_path / "agent", name="frail")
    try:
        with Device.connect(agent.control) as again:
            table = profile(again, store, build, specs=specs)
    finally:
        agent.stop()
    assert set(table.times) == set(specs)
    assert set(specs[:2]).isdisjoint(built), "what had arrived before the end is not measured again"
    assert len(set(built)) <= 4  # a flagged one is measured, and built, twice


def test_what_was_measured_on_a_throttled_device_is_measured_again(device: Device, store: Store):
    first = profile(device, store, specs=[SMALL])
    spoilt = Measurement("hot", (90.0,) * 20, (90.0,) * 20, Verdict.THROTTLED)
    key = MeasurementKey(
        device.name,
        "litert",
        device.card.runtime_version("litert"),
        "kernel",
        kernel_subject(SMALL),
        BRIEF.mode,
    )
    store.measurements.add(key, spoilt)
    assert profile(device, store, specs=[SMALL]).times[SMALL].verdict is not Verdict.THROTTLED
    assert first.times[SMALL].cpu_us < 90


def test_a_kernel_built_in_another_way_is_another_subject(device: Device, store: Store):
    built: list[str] = []

    def times(way: str) -> float:
        def build(spec: KernelSpec) -> Candidate:
            built.append(way)
            return single_op_candidate(spec)

        table = profile_kernels(device, [SMALL], build, store=store, protocol=BRIEF, built_as=lambda _: way)
        return table.times[SMALL].cpu_us

    assert times("wide") == times("wide") > 0
    times("narrow")
    assert list(dict.fromkeys(built)) == ["wide", "narrow"]


def test_what_a_measurement_cost_is_remembered(device: Device, store: Store):
    first = profile(device, store)
    assert first.seconds > 2 * BRIEF.min_seconds
    assert profile(device, store).seconds == pytest.approx(first.seconds)


def test_of_several_rounds_the_middle_one_counts_at_the_cost_of_all(device: Device, store: Store):
    built: list[KernelSpec] = []

    def build(spec: KernelSpec) -> Candidate:
        built.append(spec)
        return single_op_candidate(spec)

    table = profile_kernels(device, [LARGE], build, store=store, protocol=BRIEF, rounds=3)
    assert built.count(LARGE) >= 3
    assert table.times[LARGE].cpu_us > 0
    built.clear()
    assert profile_kernels(device, [LARGE], build, store=store, protocol=BRIEF, rounds=3) == table
    assert not built


def test_the_middle_of_rounds_carries_the_seconds_of_all():
    rounds = [Measurement("k", wall_us=(us,), cpu_us=(us,), environment=((SECONDS, "2.5"),)) for us in (9.0, 5.0, 6.0)]
    middle = _middle_of(rounds)
    assert middle.cpu_median_us == 6.0
    assert seconds_of(middle) == pytest.approx(7.5)


def test_kernels_in_a_row_are_timed_as_one(device: Device, store: Store):
    chain = (LARGE, dataclasses.replace(LARGE, activation=""))
    alone = profile(device, store, specs=list(chain)).times
    together = profile_chains(device, [chain], chain_candidate, store=store, protocol=BRIEF)[chain]
    assert together.cpu_median_us > max(alone[spec].cpu_us for spec in chain)


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


def test_a_steady_time_on_a_throttled_device_is_worse_than_an_unsteady_one():
    def times(verdict: Verdict, spread: float) -> Measurement:
        return Measurement("k", (9.0,) * 3, (9.0, 9.0 - spread, 9.0 + spread), verdict)

    best_first = [
        times(Verdict.OK, 0.1),
        times(Verdict.CONTENDED, 0.5),
        times(Verdict.UNSTABLE, 0.1),
        times(Verdict.NOISY, 0.9),
        times(Verdict.THROTTLED, 0.0),
    ]
    assert sorted((best_first[place] for place in (4, 1, 3, 0, 2)), key=_harm) == best_first


class Interrupted(Exception):
    """Ctrl-C, say."""


def test_what_had_arrived_when_this_program_was_stopped_is_stored(device: Device, store: Store):
    class Stopped(Device):
        def measure(self, *args, on_result=None, **options):
            def take(index, measurement):
                on_result(index, measurement)
                raise Interrupted

            return super().measure(*args, on_result=take, **options)

    with Stopped.connect(device.address) as stopped, pytest.raises(Interrupted):
        profile(stopped, store)
    assert len(store.measurements.newest("kernel")) == 1
