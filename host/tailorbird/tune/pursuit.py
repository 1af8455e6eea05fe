"""A kernel's seeded search, batch by batch: MetaSchedule proposes, what the devices answered goes back to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.api import tvm
from tailorbird.db import ClassSchedules
from tailorbird.tune.kernels import context_of, decisions_of, ms, stored_trace
from tailorbird.tune.space import FOREIGN_SKETCH
from tailorbird.tune.strategy import SeededSearch
from tailorbird.tune.task import Task
from tailorbird.tune.trials import Plan

if TYPE_CHECKING:  # it imports torch
    from tailorbird.tune.cost.learned import KernelCosts

_KNOWN = 128  # records that the search does not repeat; each is replayed once, in some milliseconds

CostModel = Callable[[], Any]
Evolution = Callable[[], Any]


class Pursuit:
    """Evolution and descent on one kernel, from what the store holds of it. One batch at a time; `measured` counts.

    database: of tune.database, where evolution finds its parents; trials: most in all; cost_model, evolution: make
    MetaSchedule's objects, random ranking and a small population by default; cost: a learned model instead of one.
    """

    def __init__(
        self,
        task: Task,
        schedules: ClassSchedules,
        database: Any,
        target: CompileTarget,
        *,
        trials: int,
        batch: int,
        cost_model: CostModel | None = None,
        evolution: Evolution | None = None,
        cost: KernelCosts | None = None,
    ) -> None:
        self._task = task
        self._cost = cost
        mod = tvm.ir.load_json(task.workload.module_json)
        known = [(record.trace_json, (record.cpu_us or 0.0) * 1e-6) for record in schedules.fastest(task.key, _KNOWN)]
        strategy = SeededSearch((), None if evolution is None else evolution(), known=known, cost=cost)
        self._context = context_of(mod, target, strategy)
        if cost is not None:
            self._cost_model = cost.model
        else:
            self._cost_model = ms.cost_model.RandomModel() if cost_model is None else cost_model()
        self._context.pre_tuning(trials, batch, self._context.generate_design_space(), database, self._cost_model)
        self.measured = 0
        self._waiting: dict[str, Any] = {}
        self._candidates: list[Any] = []
        self._results: list[Any] = []

    @property
    def settled(self) -> bool:
        """Whether the cost model wants no more of this kernel than its last word."""
        return self._cost is not None and self._cost.settled

    def next(self) -> list[Plan]:
        """The next batch; empty when the search has ended."""
        candidates = self._context.generate_measure_candidates()
        if candidates is None:
            self._context.post_tuning()
            return []
        plans = []
        for candidate in candidates:
            trace = stored_trace(candidate.sch)
            self._waiting[trace] = candidate
            kernel = self._task.kernel
            decisions = decisions_of(candidate.sch)
            plans.append(
                Plan(self._task.key, kernel.name, kernel.path, FOREIGN_SKETCH, decisions, trace, mode="search")
            )
        return plans

    def learn(self, plan: Plan, us: float | None, error: str) -> None:
        """An outcome; the search hears of a batch once all of it is in."""
        candidate = self._waiting.pop(plan.trace, None)
        if candidate is None:
            return
        result = ms.runner.RunnerResult(None, error or "failed") if us is None else None
        self._candidates.append(candidate)
        self._results.append(result or ms.runner.RunnerResult([(us or 0.0) * 1e-6], None))
        self.measured += 1
        if not self._waiting:
            self._cost_model.update(self._context, self._candidates, self._results)
            self._context.notify_runner_results(self._candidates, self._results)
            self._candidates, self._results = [], []
