"""MetaSchedule as it comes: its evolution of 512 programs, XGBoost, its schedule rules; from nothing.

Its gradient task scheduler is written out, because the one of the release cannot be told to stop after a time.

Only building and timing are ours (the workers that stay, the agent), which is quicker than its own: 0.05 instead of
0.08 to 0.19 s per candidate for timing, and no pool of processes started for each batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import tvm_target
from tailorbird.device import Device, Lease
from tailorbird.tune.builders import Builders
from tailorbird.tune.gather import kernel_file
from tailorbird.tune.kernels import arguments_of, ms, stored_trace, workload_key
from tailorbird.tune.measuring import ARGUMENT_TYPES, TUNING
from tailorbird.types import Candidate, ModuleKind, TensorSpec

_BATCH = 64


@dataclass
class StockRun:
    """best: kernel -> (microseconds, trace); curve: (trials, seconds, microseconds of one pass) after each batch, the
    last None until every kernel has a time."""

    best: dict[str, tuple[float, str]] = field(default_factory=dict)
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)
    trials: int = 0


def search(
    module: Any, builders: Builders, device: Device, lease: Lease, library: Path, *, trials: int, seconds: float
) -> StockRun:
    """Tune a prepared module from nothing. It ends with the batch after `seconds`."""
    started, run = time.monotonic(), StockRun()
    tasks = ms.relax_integration.extract_tasks(module, tvm_target(builders.target), module_equality="structural")
    weights = {workload_key(task.dispatched[0]): int(task.weight) for task in tasks}

    states = [_State(_context(task, builders.target), task.weight) for task in tasks]
    model = ms.cost_model.XGBModel(extractor=ms.feature_extractor.PerStoreFeature())
    database = ms.database.MemoryDatabase()
    share = max(1, trials // len(states))
    for state in states:
        spaces = state.context.generate_design_space()
        state.context.pre_tuning(share, min(_BATCH, share), spaces, database, model)
    while any(state.open for state in states) and time.monotonic() - started < seconds and run.trials < trials:
        state = max((each for each in states if each.open), key=_State.promise)
        candidates = state.context.generate_measure_candidates()
        if candidates is None:
            state.open = False
            continue
        mod = state.context.mod
        key = workload_key(mod)
        traces = [stored_trace(candidate.sch) for candidate in candidates]
        times = _timed(mod, key, candidates, traces, builders, device, lease, library)
        results = [
            ms.runner.RunnerResult([us * 1e-6], None) if us else ms.runner.RunnerResult(None, "failed") for us in times
        ]
        workload = database.commit_workload(mod)
        for candidate, us in zip(candidates, times, strict=True):
            seconds_each = [us * 1e-6 if us else 1e10]
            database.commit_tuning_record(
                ms.database.TuningRecord(
                    candidate.sch.trace, workload, seconds_each, tvm_target(builders.target), candidate.args_info
                )
            )
        model.update(state.context, candidates, results)
        state.context.notify_runner_results(candidates, results)
        state.learn(times)
        run.trials += len(times)
        for us, trace in zip(times, traces, strict=True):
            if us and (key not in run.best or us < run.best[key][0]):
                run.best[key] = (us, trace)
        known = [run.best[each][0] * weight for each, weight in weights.items() if each in run.best]
        total = sum(known) if len(known) == len(weights) else None
        run.curve.append((run.trials, time.monotonic() - started, total))
    return run


def _context(task: Any, target: CompileTarget) -> Any:
    return ms.TuneContext(
        mod=task.dispatched[0],
        target=tvm_target(target),
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        task_name=task.task_name,
        num_threads=1,
        rand_state=1,
    )


class _State:
    """A task in MetaSchedule's gradient task scheduler (alpha 0.2, window 3), which first gives each task one round."""

    def __init__(self, context: Any, weight: float) -> None:
        self.context, self.weight = context, float(weight)
        self.open = True
        self.bests: list[float] = []

    def learn(self, times: list[float | None]) -> None:
        best = min((us for us in times if us), default=1e10)
        self.bests.append(min([best, *self.bests[-1:]]))

    def promise(self) -> float:
        if not self.bests:
            return float("inf")
        count, best = len(self.bests), self.bests[-1]
        window = min(3, count - 1)
        back = (self.bests[-1 - window] - best) / window if window else 0.0
        return self.weight * (0.2 * back + 0.8 * best / count)


def _timed(
    mod: Any,
    key: str,
    candidates: Any,
    traces: list[str],
    builders: Builders,
    device: Device,
    lease: Lease,
    library: Path,
) -> list[float | None]:
    """Microseconds of each, None for what failed."""
    path = kernel_file(builders, key, mod)
    groups = [range(start, min(start + 8, len(traces))) for start in range(0, len(traces), 8)]
    asked = []
    for group in groups:
        output = builders.new_file(".so")
        items = [{"kernel": str(path), "trace": traces[index]} for index in group]
        asked.append((group, output, builders.submit({"do": "library", "items": items, "output": str(output)})))
    built: list[tuple[int, Candidate]] = []
    for group, output, future in asked:
        reply = future.result()
        for index, item in zip(group, reply.get("items", ()), strict=False):
            if "error" not in item:
                specs = tuple(
                    TensorSpec(f"arg{k}", ARGUMENT_TYPES[dtype], tuple(shape))
                    for k, (dtype, shape) in enumerate(arguments_of(candidates[index].sch))
                )
                built.append(
                    (index, Candidate(ModuleKind.TVM_KERNEL, output.read_bytes(), specs, key, symbol=item["symbol"]))
                )
    protocol = replace(TUNING, threads=builders.target.threads)
    found = device.measure([each for _, each in built], protocol, runtime_library=library, lease=lease)
    times: list[float | None] = [None] * len(traces)
    for (index, _), timing in zip(built, found, strict=True):
        if timing.ok:
            times[index] = timing.cpu_median_us if protocol.threads == 1 else timing.wall_median_us
    return times
