"""One kernel on its way to a fast schedule: what is known of it, what was tried, which rung of reuse it stands on."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tailorbird.compile.tvm.target import compiler
from tailorbird.db import ClassSchedules, ScheduleTable
from tailorbird.tune.builders import Builders
from tailorbird.tune.gather import GatheredKernel, describe_spaces
from tailorbird.tune.space import KernelSpace
from tailorbird.tune.trials import Plan
from tailorbird.types.schedule import ScheduleRecord, Workload


@dataclass(frozen=True, slots=True)
class Attempt:
    """One schedule tried on a kernel. mode: as in tune.replay, "default", or "search"; donor: the kernel it came from,
    "" for its own; us is None where it failed, with the error; invalid ones were never compiled."""

    mode: str
    donor: str
    donor_class: str
    us: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A kernel and where its schedule came from.

    calls: per pass over all modules; flops, bytes: per call, the bytes those of its arguments; source: exact | anchor |
    transfer | search | default, and import for a record of a foreign database; us: time of the schedule; untuned_us: of
    plain loops, None when they failed or were not measured; record: what to build, None when nothing ran;
    measurements: made for it in this run.
    """

    workload: str
    name: str
    calls: int
    flops: float
    bytes: int
    source: str
    us: float | None
    untuned_us: float | None
    attempts: tuple[Attempt, ...]
    measurements: int
    record: ScheduleRecord | None


@dataclass(slots=True)
class Task:
    """A kernel being tuned. Of earlier runs: exact, its best record of this compiler; untuned, that of its plain loops;
    tried, how many schedules.

    stage: own, transfer, then done with reuse; asked: plans that a worker is replaying; queue: those to be measured;
    digests: scheduled modules that were measured; under_way: plans whose outcome is not in yet.
    """

    kernel: GatheredKernel
    workload: Workload
    space: KernelSpace | None
    exact: ScheduleRecord | None
    untuned: ScheduleRecord | None
    tried: int = 0
    stage: str = "own"
    asked: tuple[list[Any], Future[dict[str, Any]]] | None = None
    queue: list[Plan] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)
    under_way: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    records: list[ScheduleRecord] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The kernel's structural hash."""
        return self.workload.key

    @property
    def best(self) -> ScheduleRecord | None:
        """The fastest of everything known, plain loops included."""
        known = [record for record in (self.exact, self.untuned, *self.records) if record and record.cpu_us is not None]
        return min(known, key=lambda record: record.cpu_us or 0.0, default=None)

    @property
    def is_scheduled(self) -> bool:
        """Whether it has a schedule of its own that ran."""
        return self.exact is not None or any(r.cpu_us is not None and r.source != "default" for r in self.records)

    def placed(self) -> Placed:
        """How the kernel stands now."""
        best = self.best
        plain = [r for r in (*self.records, self.untuned) if r and r.source == "default" and r.cpu_us is not None]
        source = "default" if best is None else "exact" if best is self.exact else best.source
        return Placed(
            workload=self.key,
            name=self.kernel.name,
            calls=self.kernel.calls,
            flops=self.workload.flops,
            bytes=self.kernel.bytes,
            source=source,
            us=None if best is None else best.cpu_us,
            untuned_us=plain[0].cpu_us if plain else None,
            attempts=tuple(self.attempts),
            measurements=len(self.records),
            record=best,
        )


def tasks_of(
    kernels: list[GatheredKernel], store: ScheduleTable, schedules: ClassSchedules, builders: Builders
) -> list[Task]:
    """Describe kernels, and remember them in the store as donors to be. What TVM cannot describe is left out."""
    asked = [builders.submit({"do": "classify", "kernel": str(kernel.path), "name": kernel.name}) for kernel in kernels]
    spaces = describe_spaces([(kernel.name, kernel.path) for kernel in kernels], builders)
    tasks = []
    tried = schedules.counts()
    for kernel, future, space in zip(kernels, asked, spaces, strict=True):
        reply = future.result()
        if "error" in reply:
            continue
        text = kernel.path.read_text(encoding="utf-8")
        workload = Workload(**{**reply, "shape": tuple(reply["shape"]), "module_json": text})
        exact = next(iter(schedules.fastest(workload.key, 1, compiler())), None)
        tasks.append(Task(kernel, workload, space, exact, schedules.default(workload.key), tried.get(workload.key, 0)))
    store.put_workloads(task.workload for task in tasks)
    return tasks
