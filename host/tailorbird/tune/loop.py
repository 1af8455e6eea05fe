"""Search on where the reuse ladder ended: one SeededSearch per kernel, batches where they win most per second.

TVM's own task scheduler repeats a round for every kernel and knows no end but its number of trials. This loop stops
when no kernel's next batch promises a given share of the whole time per minute.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any

from tailorbird.compile.tvm.api import tvm
from tailorbird.compile.tvm.target import compiler
from tailorbird.db import ClassSchedules, ScheduleTable
from tailorbird.tune.budget import Budget
from tailorbird.tune.builders import Builders
from tailorbird.tune.database import database_of
from tailorbird.tune.gather import kernel_file
from tailorbird.tune.kernels import context_of, decisions_json, ms, stored_trace
from tailorbird.tune.measuring import TUNING, Measure, Trial, target_name, timed
from tailorbird.tune.reuse import Placed, Reuse
from tailorbird.tune.space import FOREIGN_SKETCH
from tailorbird.tune.strategy import SeededSearch
from tailorbird.tune.tuner import Tuning
from tailorbird.types import TimingProtocol
from tailorbird.types.schedule import DeviceClass, ScheduleRecord

_KNOWN = 32  # records that the search does not repeat; each is replayed once


def search_on(
    outcome: Reuse,
    measure: Measure,
    store: ScheduleTable,
    boards: DeviceClass,
    builders: Builders,
    *,
    board: str,
    budget_s: float,
    batch: int = 8,
    most_trials: int = 256,
    least_gain: float = 0.002,
    protocol: TimingProtocol = TUNING,
    cost_model: Callable[[], Any] = ms.cost_model.RandomModel,
    evolution: Callable[[], Any] | None = None,
) -> Tuning:
    """Search faster schedules for the kernels of `tune.reuse`; `outcome.after(...)` joins the two.

    budget_s: wall seconds; the batch under way is finished. most_trials: per kernel. least_gain: share of one pass over
    all kernels that the best next batch must promise per minute. cost_model, evolution: make MetaSchedule's objects.
    Every record is in the store before the next batch. Whatever `measure` raises passes through.
    """
    started = time.perf_counter()
    loop = _Loop(measure, store, boards, builders, board, protocol)
    kernels = {kernel.workload: kernel for kernel in outcome.kernels}
    budget = Budget({key: (kernel.calls, kernel.us) for key, kernel in kernels.items()})
    searches: dict[str, _Search] = {}
    open_kernels = {key for key in kernels if store.workload(key) is not None}
    while open_kernels and time.perf_counter() - started < budget_s:
        if budget.gain_per_minute(batch, open_kernels) < least_gain:
            break
        key = budget.next(batch, open_kernels)
        assert key is not None
        begun = time.perf_counter()
        if key not in searches:
            searches[key] = loop.begin(kernels[key], most_trials, batch, cost_model(), evolution)
        records = loop.step(searches[key])
        if not records:
            open_kernels.discard(key)
            continue
        budget.learn(key, [record.cpu_us for record in records], time.perf_counter() - begun)
    best = [_fastest(kernel.record, loop.best.get(key)) for key, kernel in kernels.items()]
    known = tuple(record for record in best if record is not None)
    return Tuning(known, len(kernels), 0, loop.trials, loop.failures, time.perf_counter() - started)


@dataclasses.dataclass(slots=True)
class _Search:
    kernel: Placed
    path: str
    context: Any
    cost_model: Any


class _Loop:
    def __init__(
        self,
        measure: Measure,
        store: ScheduleTable,
        boards: DeviceClass,
        builders: Builders,
        board: str,
        protocol: TimingProtocol,
    ) -> None:
        self._measure = measure
        self._store = store
        self._schedules: ClassSchedules = store.of_class(boards, board)
        self._database = database_of(store, boards, board, builders.target)
        self._builders = builders
        self._protocol = dataclasses.replace(protocol, threads=builders.target.threads)
        self._run = uuid.uuid4().hex[:12]
        self.best: dict[str, ScheduleRecord] = {}
        self.trials = self.failures = 0

    def begin(
        self, kernel: Placed, trials: int, batch: int, cost_model: Any, evolution: Callable[[], Any] | None
    ) -> _Search:
        """Open a kernel's search from what the store holds of it."""
        stored = self._store.workload(kernel.workload)
        assert stored is not None
        mod = tvm.ir.load_json(stored.module_json)
        known = [
            (record.trace_json, (record.cpu_us or 0.0) * 1e-6)
            for record in self._schedules.fastest(kernel.workload, _KNOWN)
        ]
        strategy = SeededSearch((), None if evolution is None else evolution(), known=known)
        context = context_of(mod, self._builders.target, strategy)
        context.pre_tuning(trials, batch, context.generate_design_space(), self._database, cost_model)
        path = kernel_file(self._builders, kernel.workload, mod)
        return _Search(kernel, str(path), context, cost_model)

    def step(self, search: _Search) -> list[ScheduleRecord]:
        """Measure a kernel's next batch; nothing when its search has ended."""
        candidates = search.context.generate_measure_candidates()
        if candidates is None:
            search.context.post_tuning()
            return []
        drafts = [self._draft(search, candidate.sch) for candidate in candidates]
        paths = [self._builders.new_file(".so") for _ in drafts]
        asked = [
            self._builders.submit(
                {"do": "assemble", "kernel": search.path, "trace": draft.trace_json, "output": str(path)}
            )
            for draft, path in zip(drafts, paths, strict=True)
        ]
        trials = [
            Trial(draft, search.kernel.name, path, future.result())
            for draft, path, future in zip(drafts, paths, asked, strict=True)
        ]
        batch = f"{self._run}/{self.trials}"
        records = timed(trials, self._measure, self._protocol, self._builders.target, batch)
        for record in records:
            self._schedules.add(record)
            self.trials += 1
            self.failures += record.cpu_us is None
            self.best[record.workload] = _fastest(record, self.best.get(record.workload)) or record
        results = [_result(record) for record in records]
        search.cost_model.update(search.context, candidates, results)
        search.context.notify_runner_results(candidates, results)
        return records

    def _draft(self, search: _Search, schedule: Any) -> ScheduleRecord:
        return ScheduleRecord(
            target=target_name(self._builders.target),
            workload=search.kernel.workload,
            kernel_class="",
            extents=(),
            sketch=FOREIGN_SKETCH,
            decisions_json=decisions_json(schedule),
            trace_json=stored_trace(schedule),
            cpu_us=None,
            compiler=compiler(),
        )


def _result(record: ScheduleRecord) -> Any:
    if record.cpu_us is None:
        return ms.runner.RunnerResult(None, record.error or "failed")
    return ms.runner.RunnerResult([record.cpu_us * 1e-6], None)


def _fastest(one: ScheduleRecord | None, other: ScheduleRecord | None) -> ScheduleRecord | None:
    timed_records = [record for record in (one, other) if record is not None and record.cpu_us is not None]
    return min(timed_records, key=lambda record: record.cpu_us or 0.0, default=None)
