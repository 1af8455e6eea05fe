"""Tuning on a pool of devices: the search proposes, the devices answer, each answer is kept before the next is read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.fit import require_fit
from tailorbird.compile.tvm.target import compiler
from tailorbird.device import DevicePool, Devices
from tailorbird.tune.builders import Builders
from tailorbird.tune.failure import Tally
from tailorbird.tune.measuring import TUNING, condensed, target_name
from tailorbird.tune.search import Search
from tailorbird.tune.store import RecordSink
from tailorbird.tune.trials import Outcome, Plan, Trials
from tailorbird.tune.tuner import Progress, Tuning, begin, keep_best
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import ScheduleRecord


def pool_for(devices: Devices, text: str, target: CompileTarget, **options: Any) -> DevicePool:
    """A pool of the devices that `text` names ("rpi4-1", "a,b", "class:rpi4"), but for those that the code for a target
    would crash on; they are refused before anything is sent. options: of DevicePool.

    Raises UsageError for an unknown class, DeviceError for an unknown name.
    """
    return devices.pool(text, admit=lambda device: require_fit(target, device.card), **options)


def tune_on(
    pool: DevicePool,
    modules: Sequence[Any],
    budget_s: float,
    sink: RecordSink,
    builders: Builders,
    *,
    runtime_library: Path,
    seed: int = 0,
    most_trials: int | None = None,
    protocol: TimingProtocol = TUNING,
    batch: int = 16,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Tuning:
    """Search schedules for the kernels of prepared modules on several devices at once.

    budget_s: wall seconds in which batches are begun; most_trials: candidates in all. What the sink holds is not tried
    again, so a run that was killed goes on where its records end.

    Raises TuningError when candidates were tried and none could be timed; DeviceError when no device is left;
    EnvironmentFaultError when a disk is full. Records made before are in the sink.
    """
    started = time.perf_counter()
    search, best = begin(modules, builders, sink, seed)
    exact_hits, tally, proposed = len(best), Tally(), 0

    def propose(count: int) -> list[Plan]:
        nonlocal proposed
        if time.perf_counter() - started >= budget_s:
            return []
        picks = search.propose(count if most_trials is None else max(0, min(count, most_trials - proposed)))
        proposed += len(picks)
        kernels = [search.kernels[pick.workload] for pick in picks]
        return [
            Plan(pick.workload, kernel.space.name, kernel.path, pick.sketch, pick.decisions)
            for pick, kernel in zip(picks, kernels, strict=True)
        ]

    with Trials(builders, pool, protocol=protocol, runtime_library=runtime_library, batch=batch) as trials:
        for outcome in trials.stream(propose):
            record = record_of(outcome, search, builders.target)
            sink.add(record)
            search.learn(record)
            keep_best(best, record, search)
            tally.count(outcome.failure)
            total_us = sum(kernel.weight * (kernel.best_us or 0.0) for kernel in search.kernels.values())
            seconds = time.perf_counter() - started
            on_progress(
                Progress(seconds, budget_s, tally.trials, tally.failed, len(search.kernels), len(best), total_us)
            )
    tally.require_success()
    seconds = time.perf_counter() - started
    return Tuning(tuple(best.values()), len(search.kernels), exact_hits, tally.trials, tally.failed, seconds)


def record_of(outcome: Outcome, search: Search, target: CompileTarget) -> ScheduleRecord:
    """What the store keeps of an outcome."""
    space = search.kernels[outcome.plan.workload].space
    measured = outcome.measurement
    times: tuple[float, ...] = ()
    if measured is not None and outcome.us is not None:
        times = measured.cpu_us if target.threads == 1 else measured.wall_us
    notes = () if measured is None else measured.environment
    if outcome.drift:
        notes = (*notes, ("incumbent_drift", f"{outcome.drift:+.4f}"))
    return ScheduleRecord(
        target=target_name(target),
        workload=outcome.plan.workload,
        kernel_class=space.kernel_class,
        extents=space.extents,
        sketch=outcome.plan.sketch,
        decisions_json=json.dumps(outcome.decisions or outcome.plan.decisions),
        trace_json=outcome.trace,
        cpu_us=outcome.us,
        verdict=measured.verdict.value if measured is not None else "ok",
        error="" if outcome.failure is None else str(outcome.failure),
        compiler=compiler(),
        run_us=condensed(times) if times else (),
        environment=notes,
        batch=outcome.batch,
        source=outcome.plan.source,
    )
