"""The schedule store as MetaSchedule sees it: a PyDatabase of one class of boards.

TVM's own databases ignore the target in every look-up: an x86 schedule answers for an Arm core without a word. This one
is bound to a class, holds nothing of others, and answers a look-up for another target with nothing.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import Module, tvm
from tailorbird.compile.tvm.target import compiler, tvm_target
from tailorbird.db import ClassSchedules, ScheduleTable
from tailorbird.errors import UsageError
from tailorbird.tune.kernels import decisions_json, ms, stored_trace, tuning_record, workload_key
from tailorbird.tune.measuring import target_name
from tailorbird.tune.space import DEFAULT_SKETCH, FOREIGN_SKETCH
from tailorbird.tune.workload import describe
from tailorbird.types.schedule import DeviceClass, ScheduleRecord

_derived: Any = importlib.import_module("tvm.ir.utils").derived_object


def database_of(store: ScheduleTable, boards: DeviceClass, board: str, target: CompileTarget) -> Any:
    """A MetaSchedule database of a class of boards: `with database_of(...): MetaScheduleApplyDatabase()(mod)`.

    What is committed to it is in the store, as made on `board`, before the call returns. Records that this release of
    TVM cannot replay are passed over and counted in `stale`; they stay in the store. Not for several threads at once.
    Raises UsageError when the boards are not what the target compiles for.
    """
    if (boards.triple, boards.llvm_cpu, boards.threads) != (target.triple, target.llvm_cpu, target.threads):
        raise UsageError(
            f"the schedules of {boards.name} are not for {target_name(target)}",
            why="a schedule's time holds for one CPU and one number of threads",
            fix="open the database with the target of the device's card",
        )
    return _StoreDatabase(store, store.of_class(boards, board), target)


@_derived
class _StoreDatabase(ms.database.PyDatabase):
    """Calls arrive from C++, which keeps this object's outer half."""

    def __init__(self, store: ScheduleTable, schedules: ClassSchedules, target: CompileTarget) -> None:
        super().__init__()
        self._store = store
        self._schedules = schedules
        self._compile_target = target
        self._machine = tvm_target(target)
        self._workloads: dict[str, Any] = {}
        self.stale = 0

    def has_workload(self, mod: Module) -> bool:
        """Whether the store knows the kernel, with records on these boards or without."""
        return self._store.workload(workload_key(mod)) is not None

    def commit_workload(self, mod: Module) -> Any:
        """The kernel's MetaSchedule workload; the store remembers the kernel."""
        key = workload_key(mod)
        if key not in self._workloads:
            self._store.put_workloads([with_module(mod)])
            self._workloads[key] = ms.database.Workload(mod)
        return self._workloads[key]

    def commit_tuning_record(self, record: Any) -> None:
        """Store a measured schedule; one without times is a failure."""
        mod = record.workload.mod
        self.commit_workload(mod)
        times = tuple(float(seconds) * 1e6 for seconds in record.run_secs or ())
        failed = not times or max(times) >= _FAILED_US
        schedule = tvm.s_tir.Schedule(mod)
        record.trace.apply_to_schedule(schedule, remove_postproc=True)
        plain = stored_trace(schedule)
        self._schedules.add(
            ScheduleRecord(
                target=target_name(self._compile_target),
                workload=workload_key(mod),
                kernel_class="",
                extents=describe(mod).shape,
                sketch=FOREIGN_SKETCH if json.loads(plain)[0] else DEFAULT_SKETCH,
                decisions_json=decisions_json(schedule),
                trace_json=plain,
                cpu_us=None if failed else sum(times) / len(times),
                error="it failed to build or to run" if failed else "",
                compiler=compiler(),
                run_us=() if failed else times,
            )
        )

    def get_top_k(self, workload: Any, top_k: int) -> list[Any]:
        """The fastest records of a kernel."""
        found = self._schedules.fastest(workload_key(workload.mod), max(0, int(top_k)))
        return self._replayed([(workload, record) for record in found])

    def get_all_tuning_records(self) -> list[Any]:
        """Every good record whose kernel's module can be loaded."""
        pairs = []
        for record in self._schedules.records():
            workload = self._loaded(record.workload)
            if record.cpu_us is None:
                continue
            if workload is None:
                self.stale += 1
                continue
            pairs.append((workload, record))
        return self._replayed(pairs)

    def query_tuning_record(self, mod: Module, target: Any, workload_name: str | None = None) -> Any:
        """The fastest record of a kernel; nothing for another target than the database's."""
        del workload_name
        if target is not None and str(target.export()) != str(self._machine.export()):
            return None
        found = self.get_top_k(self._workloads.get(workload_key(mod)) or ms.database.Workload(mod), 1)
        return found[0] if found else None

    def query_schedule(self, mod: Module, target: Any, workload_name: str | None = None) -> Any:
        """The fastest schedule of a kernel."""
        record = self.query_tuning_record(mod, target, workload_name)
        if record is None:
            return None
        schedule = tvm.s_tir.Schedule(mod)
        record.trace.apply_to_schedule(schedule, remove_postproc=False)
        return schedule

    def query_ir_module(self, mod: Module, target: Any, workload_name: str | None = None) -> Any:
        """The fastest scheduled module of a kernel."""
        schedule = self.query_schedule(mod, target, workload_name)
        return None if schedule is None else schedule.mod

    def __len__(self) -> int:
        return len(self._schedules)

    def _loaded(self, key: str) -> Any:
        if key not in self._workloads:
            known = self._store.workload(key)
            if known is None or not known.module_json or known.compiler != compiler():
                return None  # a module of another release may end the process that reads it
            self._workloads[key] = ms.database.Workload(tvm.ir.load_json(known.module_json))
        return self._workloads[key]

    def _replayed(self, pairs: list[tuple[Any, ScheduleRecord]]) -> list[Any]:
        replayed = []
        for workload, record in pairs:
            times = record.run_us or (record.cpu_us or 0.0,)
            try:
                replayed.append(tuning_record(workload, record.trace_json, times, self._compile_target))
            except Exception:  # TVM raises what it likes for a trace it does not take
                self.stale += 1
        return replayed


_FAILED_US = 1e15  # MetaSchedule stores failures as 1e10 seconds


def with_module(mod: Module, name: str = "") -> Any:
    """A kernel as the store knows it, with the module's own text."""
    return dataclasses.replace(describe(mod, name), module_json=str(tvm.ir.save_json(mod)))
