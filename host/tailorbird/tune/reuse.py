"""The reuse ladder: a schedule for a kernel from what is in the store, with a handful of measurements at most.

    exact       this kernel was tuned on these boards: nothing is measured, or one confirmation under a new TVM release
    anchor      the same main block with another epilogue was: one measurement
    transfer    kernels of the pattern, from other models and boards, lend theirs: a few measurements
    default     nothing applies, or plain loops are faster: they are measured too, so no schedule makes a kernel slower

Workers replay the lent schedules; those that come to the same are measured once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.compile.tvm.target import compiler
from tailorbird.db import ClassSchedules, Donor, ScheduleTable
from tailorbird.tune.builders import Builders
from tailorbird.tune.donors import rank
from tailorbird.tune.space import FOREIGN_SKETCH
from tailorbird.tune.task import Attempt, Task
from tailorbird.tune.trials import PLAIN_TRACE, Plan
from tailorbird.tune.workload import relaxations

_DONORS = 3
_EXACT = 3
_ANCHORS = 2
_SOURCES = {"stored": "exact", "anchor": "anchor"}


@dataclass(frozen=True, slots=True)
class Loan:
    """A stored schedule to be tried on a kernel. mode: of tune.replay; donor: None for the kernel's own."""

    mode: str
    trace: str
    donor: Donor | None = None
    seed: int = 0


class Lending:
    """Gives a task the schedules that the store lends it, one after the other.

    measurements: most per kernel, that of its plain loops included; accept: which donors may be used (of another kernel
    or other boards; the kernel's own records always are).
    """

    def __init__(
        self,
        store: ScheduleTable,
        schedules: ClassSchedules,
        builders: Builders,
        *,
        measurements: int,
        accept: Callable[[Donor], bool],
        seed: int,
    ) -> None:
        self._store = store
        self._schedules = schedules
        self._builders = builders
        self._measurements = measurements
        self._accept = accept
        self._seed = seed
        self._donors: dict[str, list[Donor]] = {}  # by the beginning of a pattern; kernels share them

    def begin(self, task: Task) -> None:
        """Look up what is known; replays start in the workers."""
        if task.exact is not None:
            task.stage = "done"
        elif not self._ask(task, self._own(task)):
            task.stage = "transfer"
            self._ask(task, self._transfers(task))

    def next(self, task: Task) -> Plan | None:
        """The next lent schedule to measure.

        None when there is none (task.stage is "done" then), or none before what is under way has an outcome.
        """
        while task.stage != "done":
            if task.asked is not None:
                self._collect(task)
            if task.queue:
                return task.queue.pop(0)
            if task.under_way:
                return None
            if task.stage == "transfer" or task.is_scheduled:
                task.stage = "done"
            else:
                task.stage = "transfer"
                self._ask(task, self._transfers(task))
        return None

    def _own(self, task: Task) -> list[Loan]:
        """The kernel's records under another release, or else those of its main block with another epilogue."""
        known = self._schedules.fastest(task.key, _EXACT)
        if known:
            return [Loan("stored", record.trace_json) for record in known]
        found = [
            donor
            for donor in self._store.anchored(task.workload.anchor)
            if donor.device_class.name == self._schedules.boards.name and self._accept(donor)
        ]
        found.sort(key=lambda donor: donor.record.cpu_us or 0.0)
        return [Loan("anchor", donor.record.trace_json, donor) for donor in found[:_ANCHORS]]

    def _transfers(self, task: Task) -> list[Loan]:
        """Nearest factors and the raw trace of the first donor, then of the others, then the first one's jittered."""
        groups = [self._of_pattern(beginning) for beginning in relaxations(task.workload.pattern)]
        donors = rank(groups, task.workload, self._schedules.boards, _DONORS)
        loans = [Loan(mode, donor.record.trace_json, donor) for donor in donors for mode in ("nearest", "raw")]
        jitter = [
            Loan("jitter", donor.record.trace_json, donor, self._seed + number)
            for number in range(2)
            for donor in donors[:2]
        ]
        return loans + jitter

    def _of_pattern(self, beginning: str) -> list[Donor]:
        if beginning not in self._donors:
            self._donors[beginning] = [donor for donor in self._store.donors(beginning) if self._accept(donor)]
        return self._donors[beginning]

    def _ask(self, task: Task, loans: Sequence[Loan]) -> bool:
        """Have a worker replay loans on the kernel. Whether there are any."""
        if loans:
            asked = [
                {"mode": loan.mode, "trace": loan.trace, "seed": loan.seed, "donor": self._donor_file(loan.donor)}
                for loan in loans
            ]
            request = {"do": "replay", "kernel": str(task.kernel.path), "plans": asked}
            task.asked = (list(loans), self._builders.submit(request))
        return bool(loans)

    def _donor_file(self, donor: Donor | None) -> str:
        """The donor's module for the workers; "" when there is none that this release of TVM is sure to read."""
        if donor is None or not donor.workload.module_json or donor.workload.compiler != compiler():
            return ""
        path = self._builders.folder / f"kernel-{donor.workload.key}.json"
        if not path.exists():
            path.write_text(donor.workload.module_json, encoding="utf-8")
        return str(path)

    def _collect(self, task: Task) -> None:
        """What the worker made of the loans: the first few that differ are queued. A kernel's own need one."""
        assert task.asked is not None
        loans, future = task.asked
        task.asked = None
        plain = 0 if any(record.source == "default" for record in task.records) else 1
        left = 1 if task.stage == "own" else self._measurements - len(task.records) - plain
        reply = future.result()
        results = reply.get("results") or [{"error": reply["error"]}] * len(loans)
        for loan, result in zip(loans, results, strict=True):
            if "error" in result:
                task.attempts.append(Attempt(loan.mode, *_lender(loan), None, result["error"]))
            elif left > 0 and result["digest"] not in task.digests:
                task.digests.add(result["digest"])
                task.queue.append(_plan(task, loan, result))
                left -= 1


def _plan(task: Task, loan: Loan, result: dict[str, Any]) -> Plan:
    donor, donor_class = _lender(loan)
    decisions = tuple(tuple(each) if isinstance(each, list) else each for each in json.loads(result["decisions_json"]))
    return Plan(
        task.key,
        task.kernel.name,
        task.kernel.path,
        sketch=result["sketch"] if task.space is not None else FOREIGN_SKETCH,
        decisions=decisions,
        trace=result["trace_json"] or PLAIN_TRACE,
        source=_SOURCES.get(loan.mode, "transfer"),
        mode=loan.mode,
        donor=donor,
        donor_class=donor_class,
    )


def _lender(loan: Loan) -> tuple[str, str]:
    return ("", "") if loan.donor is None else (loan.donor.workload.key, loan.donor.device_class.name)
