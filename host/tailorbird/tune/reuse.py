"""The reuse ladder: a schedule for every kernel from what is in the store, with a handful of measurements at most.

    exact       this kernel was tuned on these boards: nothing is measured, or one confirmation under a new TVM release
    anchor      the same main block with another epilogue was: one measurement
    transfer    kernels of the pattern, from other models and boards, lend theirs: a few measurements
    default     nothing applies, or plain loops are faster: they are measured too, so no schedule makes a kernel slower

What is left over is for the search (tune.tuner), which starts from the records made here. Plain loops are measured once
per kernel and class of boards; a library's time is that of whole modules, measured beside.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import compiler
from tailorbird.db import ClassSchedules, Donor, ScheduleTable
from tailorbird.tune.builders import Builders
from tailorbird.tune.donors import rank
from tailorbird.tune.gather import GatheredKernel, describe_spaces, distinct_kernels
from tailorbird.tune.measuring import TUNING, Measure, Trial, target_name, timed
from tailorbird.tune.space import DEFAULT_SKETCH, FOREIGN_SKETCH, KernelSpace
from tailorbird.tune.tuner import Tuning
from tailorbird.tune.workload import relaxations
from tailorbird.types import Candidate, TimingProtocol
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

_BATCH = 16
_DONORS = 3
_EXACT = 3
_ANCHORS = 2
_PLAIN = "[[],[]]"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One schedule tried on a kernel. mode: as in tune.replay, or "default"; donor: the kernel it came from, "" for its
    own; us is None where it failed, with the error; invalid ones were never compiled."""

    mode: str
    donor: str
    donor_class: str
    us: float | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Placed:
    """A kernel and the rung of the reuse ladder that gave its schedule.

    source: exact | anchor | transfer | search | default; us: median time of the schedule; untuned_us: of plain loops,
    None when they failed; record: what to build, None when nothing ran; measurements: made for it in this run.
    """

    workload: str
    name: str
    calls: int
    source: str
    us: float | None
    untuned_us: float | None
    attempts: tuple[Attempt, ...]
    measurements: int
    record: ScheduleRecord | None


@dataclass(frozen=True, slots=True)
class Reuse:
    """Outcome of the ladder. library_us: medians of the library's modules as given, None for one that failed."""

    kernels: tuple[Placed, ...]
    library_us: tuple[float | None, ...]
    measurements: int
    seconds: float

    @property
    def total_us(self) -> float:
        """One pass over all modules by the kernels' times."""
        return sum(kernel.calls * (kernel.us or 0.0) for kernel in self.kernels)

    @property
    def untuned_us(self) -> float:
        """The same with plain loops; a kernel whose plain loops failed counts with its schedule."""
        return sum(kernel.calls * (kernel.untuned_us or kernel.us or 0.0) for kernel in self.kernels)

    def count(self, source: str) -> int:
        """Kernels whose schedule came from a rung."""
        return sum(kernel.source == source for kernel in self.kernels)

    def tuning(self) -> Tuning:
        """What `tune.tuner.build_rungs` needs to build the modules with these schedules."""
        best = tuple(kernel.record for kernel in self.kernels if kernel.record is not None)
        failures = sum(attempt.us is None for kernel in self.kernels for attempt in kernel.attempts)
        return Tuning(best, len(self.kernels), self.count("exact"), self.measurements, failures, self.seconds)

    def after(self, tuning: Tuning) -> Reuse:
        """The same kernels once a search has gone on from here: what it made faster has the source "search"."""
        found = {record.workload: record for record in tuning.best if record.source == "search"}
        kernels = tuple(_overtaken(kernel, found.get(kernel.workload)) for kernel in self.kernels)
        return dataclasses.replace(
            self,
            kernels=kernels,
            measurements=self.measurements + tuning.trials,
            seconds=self.seconds + tuning.seconds,
        )


@dataclass(frozen=True, slots=True)
class _Plan:
    mode: str
    trace: str
    donor: Donor | None = None
    seed: int = 0


@dataclass(slots=True)
class _Kernel:
    """A kernel on its way up the ladder."""

    gathered: GatheredKernel
    workload: Workload
    space: KernelSpace | None = None
    exact: ScheduleRecord | None = None
    untuned: ScheduleRecord | None = None
    attempts: list[Attempt] = field(default_factory=list)
    records: list[ScheduleRecord] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)

    @property
    def scheduled(self) -> bool:
        return self.exact is not None or any(
            record.cpu_us is not None and record.source != "default" for record in self.records
        )


def reuse(
    modules: Sequence[Any],
    measure: Measure,
    store: ScheduleTable,
    boards: DeviceClass,
    builders: Builders,
    *,
    board: str,
    measurements: int = 5,
    accept: Callable[[Donor], bool] = lambda _: True,
    library: Sequence[Candidate] = (),
    seed: int = 0,
    protocol: TimingProtocol = TUNING,
) -> Reuse:
    """Give every kernel of prepared modules (compile.tvm.pipeline.prepare) a schedule from the store.

    measurements: most per kernel, that of its plain loops included; accept: which donors may be used (of another
    kernel or other boards; exact hits are always used); library: the same modules built by another runtime, timed for
    comparison. Every trial is in the store before the next batch. Whatever `measure` raises passes through.
    """
    started = time.perf_counter()
    ladder = _Ladder(measure, store, store.of_class(boards, board), builders, protocol, accept, seed)
    kernels = ladder.classify(distinct_kernels(modules, builders))
    ladder.climb_known(kernels)
    ladder.climb_transfer(kernels, measurements)
    timings = measure(library, protocol) if library else ()
    library_us = tuple(timing.cpu_median_us if timing.ok else None for timing in timings)
    placed = tuple(_placed(kernel) for kernel in kernels)
    return Reuse(placed, library_us, ladder.measured, time.perf_counter() - started)


class _Ladder:
    def __init__(
        self,
        measure: Measure,
        store: ScheduleTable,
        schedules: ClassSchedules,
        builders: Builders,
        protocol: TimingProtocol,
        accept: Callable[[Donor], bool],
        seed: int,
    ) -> None:
        self._measure = measure
        self._store = store
        self._schedules = schedules
        self._builders = builders
        self._protocol = dataclasses.replace(protocol, threads=builders.target.threads)
        self._accept = accept
        self._seed = seed
        self._run = uuid.uuid4().hex[:12]
        self.measured = 0

    def classify(self, gathered: Sequence[GatheredKernel]) -> list[_Kernel]:
        """Describe the kernels, and remember them: they may become donors. What TVM cannot describe stays plain."""
        asked = [
            self._builders.submit({"do": "classify", "kernel": str(kernel.path), "name": kernel.name})
            for kernel in gathered
        ]
        kernels = []
        for kernel, future in zip(gathered, asked, strict=True):
            reply = future.result()
            text = kernel.path.read_text(encoding="utf-8")
            if "error" not in reply:
                reply["shape"] = tuple(reply["shape"])
                kernels.append(_Kernel(kernel, Workload(**{**reply, "module_json": text})))
        self._store.put_workloads(kernel.workload for kernel in kernels)
        return kernels

    def climb_known(self, kernels: Sequence[_Kernel]) -> None:
        """Exact hits and anchors, and the plain loops of every kernel that needs measuring at all."""
        open_kernels = []
        for kernel in kernels:
            kernel.untuned = self._schedules.default(kernel.workload.key)
            kernel.exact = next(iter(self._schedules.fastest(kernel.workload.key, 1, compiler())), None)
            if kernel.exact is None:
                open_kernels.append(kernel)
        named = [(kernel.gathered.name, kernel.gathered.path) for kernel in open_kernels]
        for kernel, space in zip(open_kernels, describe_spaces(named, self._builders), strict=True):
            kernel.space = space
        self._try([(kernel, self._own(kernel), 1) for kernel in open_kernels])
        self._try_plain([kernel for kernel in open_kernels if kernel.untuned is None])

    def climb_transfer(self, kernels: Sequence[_Kernel], measurements: int) -> None:
        """Schedules of other kernels, for those that have none yet."""
        waiting = [kernel for kernel in kernels if not kernel.scheduled and measurements > len(kernel.records)]
        self._try([(kernel, self._transfers(kernel), measurements - len(kernel.records)) for kernel in waiting])

    def _own(self, kernel: _Kernel) -> list[_Plan]:
        """The kernel's records under another release, or else those of its main block with another epilogue."""
        known = self._schedules.fastest(kernel.workload.key, _EXACT)
        if known:
            return [_Plan("stored", record.trace_json) for record in known]
        return [_Plan("anchor", donor.record.trace_json, donor) for donor in self._anchors(kernel)]

    def _anchors(self, kernel: _Kernel) -> list[Donor]:
        found = [
            donor
            for donor in self._store.anchored(kernel.workload.anchor)
            if donor.device_class.name == self._schedules.boards.name and self._accept(donor)
        ]
        return sorted(found, key=lambda donor: donor.record.cpu_us or 0.0)[:_ANCHORS]

    def _transfers(self, kernel: _Kernel) -> list[_Plan]:
        """Nearest factors and the raw trace of the first donor, then of the others, then the first one's jittered."""
        groups = [
            [donor for donor in self._store.donors(beginning) if self._accept(donor)]
            for beginning in relaxations(kernel.workload.pattern)
        ]
        donors = rank(groups, kernel.workload, self._schedules.boards, _DONORS)
        plans = [_Plan(mode, donor.record.trace_json, donor) for donor in donors for mode in ("nearest", "raw")]
        jitter = [
            _Plan("jitter", donor.record.trace_json, donor, self._seed + number)
            for number in range(2)
            for donor in donors[:2]
        ]
        return plans + jitter

    def _try(self, plans: Iterable[tuple[_Kernel, list[_Plan], int]]) -> None:
        """Replay plans on their kernels, drop those that come to the same, and measure the first few of each."""
        asked = [
            (kernel, chosen, most, self._builders.submit(self._replay_request(kernel, chosen)))
            for kernel, chosen, most in plans
            if chosen
        ]
        drafts: list[tuple[_Kernel, _Plan, ScheduleRecord]] = []
        for kernel, chosen, most, future in asked:
            reply = future.result()
            results = reply.get("results") or [{"error": reply["error"]}] * len(chosen)
            left = most
            for plan, result in zip(chosen, results, strict=True):
                if "error" in result:
                    kernel.attempts.append(_attempt(plan, None, result["error"]))
                elif left and result["digest"] not in kernel.digests:
                    kernel.digests.add(result["digest"])
                    drafts.append((kernel, plan, self._draft(kernel, plan, result)))
                    left -= 1
        self._measure_all(drafts)

    def _try_plain(self, kernels: Sequence[_Kernel]) -> None:
        plan = _Plan("default", _PLAIN)
        plain = {"trace_json": _PLAIN, "decisions_json": "[]", "sketch": DEFAULT_SKETCH}
        self._measure_all([(kernel, plan, self._draft(kernel, plan, plain)) for kernel in kernels])

    def _replay_request(self, kernel: _Kernel, plans: Sequence[_Plan]) -> dict[str, Any]:
        asked = [
            {"mode": plan.mode, "trace": plan.trace, "seed": plan.seed, "donor": self._donor_file(plan.donor)}
            for plan in plans
        ]
        return {"do": "replay", "kernel": str(kernel.gathered.path), "plans": asked}

    def _donor_file(self, donor: Donor | None) -> str:
        """The donor's module for the workers; "" when there is none that this release of TVM is sure to read."""
        if donor is None or not donor.workload.module_json or donor.workload.compiler != compiler():
            return ""
        path = self._builders.folder / f"kernel-{donor.workload.key}.json"
        if not path.exists():
            path.write_text(donor.workload.module_json, encoding="utf-8")
        return str(path)

    def _draft(self, kernel: _Kernel, plan: _Plan, result: dict[str, Any]) -> ScheduleRecord:
        space, sketch = kernel.space, result["sketch"]
        return ScheduleRecord(
            target=target_name(self._builders.target),
            workload=kernel.workload.key,
            kernel_class="" if space is None else space.kernel_class,
            extents=kernel.workload.shape if space is None else space.extents,
            sketch=sketch if space is not None or sketch == DEFAULT_SKETCH else FOREIGN_SKETCH,
            decisions_json=result["decisions_json"],
            trace_json=result["trace_json"],
            cpu_us=None,
            compiler=compiler(),
            source={"stored": "exact", "anchor": "anchor", "default": "default"}.get(plan.mode, "transfer"),
        )

    def _measure_all(self, drafts: Sequence[tuple[_Kernel, _Plan, ScheduleRecord]]) -> None:
        jobs = [(draft, self._builders.new_file(".so")) for draft in drafts]
        asked = [self._builders.submit(_assembly(kernel, draft, path)) for (kernel, _, draft), path in jobs]
        for start in range(0, len(jobs), _BATCH):
            part = list(zip(jobs[start : start + _BATCH], asked[start : start + _BATCH], strict=True))
            trials = [
                Trial(draft, kernel.gathered.name, path, future.result()) for ((kernel, _, draft), path), future in part
            ]
            batch = f"{self._run}/{self.measured}"
            records = timed(trials, self._measure, self._protocol, self._builders.target, batch)
            for (((kernel, plan, _), _), _), record in zip(part, records, strict=True):
                self._schedules.add(record)
                self.measured += 1
                kernel.records.append(record)
                kernel.attempts.append(_attempt(plan, record.cpu_us, record.error))


def boards_of(target: CompileTarget) -> DeviceClass:
    """The class of boards that a target alone names, where no card is at hand."""
    return DeviceClass.from_target(target_name(target))


def _assembly(kernel: _Kernel, draft: ScheduleRecord, output: Path) -> dict[str, Any]:
    request = {"do": "assemble", "kernel": str(kernel.gathered.path), "trace": draft.trace_json}
    return {**request, "output": str(output)}


def _attempt(plan: _Plan, us: float | None, error: str) -> Attempt:
    if plan.donor is None:
        return Attempt(plan.mode, "", "", us, error)
    return Attempt(plan.mode, plan.donor.workload.key, plan.donor.device_class.name, us, error)


def _placed(kernel: _Kernel) -> Placed:
    untuned = next((r for r in kernel.records if r.source == "default" and r.cpu_us is not None), kernel.untuned)
    options = [record for record in (kernel.exact, untuned, *kernel.records) if record and record.cpu_us is not None]
    best = min(options, key=lambda record: record.cpu_us or 0.0, default=None)
    source = "default" if best is None else "exact" if best is kernel.exact else best.source
    return Placed(
        workload=kernel.workload.key,
        name=kernel.gathered.name,
        calls=kernel.gathered.calls,
        source=source,
        us=None if best is None else best.cpu_us,
        untuned_us=None if untuned is None else untuned.cpu_us,
        attempts=tuple(kernel.attempts),
        measurements=len(kernel.records),
        record=best,
    )


def _overtaken(kernel: Placed, found: ScheduleRecord | None) -> Placed:
    if found is None or found.cpu_us is None or (kernel.us is not None and kernel.us <= found.cpu_us):
        return kernel
    return dataclasses.replace(kernel, source="search", us=found.cpu_us, record=found)
