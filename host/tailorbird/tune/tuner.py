"""Which schedule of which kernel to try next. Knows no device, file or clock: seconds come in as numbers.

Every kernel goes the same way: what the store lends it (tune.reuse), then draws where fast schedules lie
(tune.opening), then evolution and descent (tune.pursuit). The budget says which kernel moves next, so a kernel in which
much time is left may be evolving while others still wait for their first loan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.compile.base import CompileTarget
from tailorbird.tune.budget import Budget
from tailorbird.tune.failure import Tally
from tailorbird.tune.opening import Opening
from tailorbird.tune.pursuit import Pursuit
from tailorbird.tune.recording import recorded
from tailorbird.tune.reuse import Lending
from tailorbird.tune.task import Attempt, Placed, Task
from tailorbird.tune.trials import Outcome, Plan
from tailorbird.types.schedule import ScheduleRecord

#: Draws on a kernel before evolution takes over: fewer give it no parents, more are drawn blindly.
OPENING_TRIALS = 16
_STOP_BATCH = 8


@dataclass(frozen=True, slots=True)
class Tuning:
    """Outcome. kernels: all, and what each is built with; failures: (kind, candidates); exhausted: nothing was left
    that promised enough, so more time would not have helped much; spent: wall seconds that building, running and
    choosing took, the first two summed over batches, which overlap."""

    kernels: tuple[Placed, ...]
    trials: int
    failures: tuple[tuple[str, int], ...]
    seconds: float
    exhausted: bool = False
    spent: tuple[tuple[str, float], ...] = ()

    @property
    def best(self) -> tuple[ScheduleRecord, ...]:
        """The records to build with."""
        return tuple(kernel.record for kernel in self.kernels if kernel.record is not None)

    @property
    def failed(self) -> int:
        """Candidates without a time."""
        return sum(count for _, count in self.failures)

    @property
    def total_us(self) -> float:
        """One pass over all modules by the kernels' times."""
        return sum(kernel.calls * (kernel.us or 0.0) for kernel in self.kernels)

    @property
    def untuned_us(self) -> float:
        """The same with plain loops; a kernel whose plain loops were not timed counts with its schedule."""
        return sum(kernel.calls * (kernel.untuned_us or kernel.us or 0.0) for kernel in self.kernels)

    def count(self, source: str) -> int:
        """Kernels whose schedule came from there."""
        return sum(kernel.source == source for kernel in self.kernels)


class Tuner:
    """Proposes plans and takes in outcomes. pursue: opens a kernel's seeded search, None to end after reuse;
    least_gain: share of one pass over all kernels that the best next batch must promise per minute."""

    def __init__(
        self,
        tasks: Sequence[Task],
        target: CompileTarget,
        lending: Lending,
        opening: Opening,
        *,
        pursue: Callable[[Task], Pursuit] | None,
        most_trials: int | None = None,
        opening_trials: int = OPENING_TRIALS,
        least_gain: float = 0.002,
    ) -> None:
        self._tasks = {task.key: task for task in tasks}
        self._target = target
        self._lending, self._opening = lending, opening
        self._pursue = pursue
        self._pursuits: dict[str, Pursuit] = {}
        self._left = most_trials
        self._opening_trials, self._least_gain = opening_trials, least_gain
        self._opened = {task.key: task.tried for task in tasks}
        self._open = set(self._tasks)
        self._under_way: set[Plan] = set()
        self.tally = Tally()
        self.exhausted = False
        self._budget = Budget({task.key: self._account(task) for task in tasks})

    @property
    def trials_left(self) -> int | None:
        """Trials that may still be begun, None without a limit."""
        return self._left

    @property
    def under_way(self) -> int:
        """Plans without an outcome."""
        return len(self._under_way)

    def propose(self, count: int) -> list[Plan] | None:
        """Up to `count` plans; none when there is nothing left to try, None when outcomes must come first."""
        count = count if self._left is None else min(count, self._left)
        if self._pursue is not None and self._stops():
            self._pursue, self.exhausted = None, True
        plans: list[Plan] = []
        ready = set(self._open)
        while len(plans) < count and (key := self._budget.next(1, ready)) is not None:
            more = self._moves(self._tasks[key], count - len(plans))
            if more:
                self._begin(key, more)
                plans += more
                continue
            ready.discard(key)
            if more is not None:
                self._open.discard(key)
        if self._left is not None:
            self._left -= len(plans)
        return plans or (None if self._under_way and count else [])

    def learn(self, outcome: Outcome, seconds: float) -> ScheduleRecord:
        """Take in an outcome, which took so long to come; what the store keeps of it."""
        plan = outcome.plan
        task = self._tasks[plan.workload]
        if plan in self._under_way:
            self._under_way.remove(plan)
            task.under_way -= 1
        space = task.space
        known = ("", task.workload.shape) if space is None else (space.kernel_class, space.extents)
        record = recorded(outcome, self._target, *known)
        task.records.append(record)
        task.attempts.append(Attempt(plan.mode, plan.donor, plan.donor_class, record.cpu_us, record.error))
        self._opening.learn(record)
        if plan.workload in self._pursuits:
            self._pursuits[plan.workload].learn(plan, outcome.us, record.error)
        told = self._budget.plain if plan.is_default else self._budget.learn
        told(plan.workload, outcome.us, seconds)
        for each in self._tasks.values():
            self._budget.expect(each.key, self._guess(each))
        self.tally.count(outcome.failure)
        return record

    def placed(self) -> tuple[Placed, ...]:
        """How every kernel stands now."""
        return tuple(task.placed() for task in self._tasks.values())

    def _stops(self) -> bool:
        """Whether no search promises enough. Kernels that still have loans do not count: those are few."""
        searching = {key for key in self._open if self._tasks[key].stage == "done"}
        if not searching or searching != self._open:
            return False
        return self._budget.gain_per_minute(_STOP_BATCH, searching) < self._least_gain

    def _begin(self, key: str, plans: Sequence[Plan]) -> None:
        self._budget.plan(key, len(plans))
        self._under_way.update(plans)
        self._tasks[key].under_way += len(plans)

    def _moves(self, task: Task, room: int) -> list[Plan] | None:
        """The task's next plans: none when it has no more, None while it waits for outcomes."""
        loan = self._lending.next(task)
        if loan is not None:
            return [loan]
        if task.stage != "done":
            return None
        if self._pursue is None or task.space is None:
            if task.best is not None or task.records:
                return []
            return None if task.under_way else [_plain(task)]
        if self._opened[task.key] < self._opening_trials:
            pick = self._opening.pick(task.key)
            if pick is not None:
                self._opened[task.key] += 1
                return [Plan(task.key, task.kernel.name, task.kernel.path, pick.sketch, pick.decisions, mode="search")]
        if task.under_way or room < min(_STOP_BATCH, self._left or _STOP_BATCH):
            return None  # evolution learns from whole batches
        return self._pursued(task, self._pursue)

    def _pursued(self, task: Task, pursue: Callable[[Task], Pursuit]) -> list[Plan]:
        """The next batch of a kernel's search; one that has ended begins again from the records it made."""
        known = self._pursuits.get(task.key)
        plans = [] if known is None else known.next()
        if plans or (known is not None and (known.settled or not known.measured)):
            return plans
        self._pursuits[task.key] = pursue(task)
        return self._pursuits[task.key].next()

    def _account(self, task: Task) -> tuple[int, float | None, float, int]:
        return task.kernel.calls, _us(task.best), self._guess(task), task.tried

    def _guess(self, task: Task) -> float:
        return self._opening.expected_us(task.key, task.workload.flops)


def _plain(task: Task) -> Plan:
    return Plan(task.key, task.kernel.name, task.kernel.path, source="default", mode="default")


def _us(record: ScheduleRecord | None) -> float | None:
    return None if record is None else record.cpu_us
