"""A search strategy for MetaSchedule that begins where the reuse ladder ended.

    seeds          schedules that other kernels lend, as they are
    evolution      MetaSchedule's own, with a small population: the stock one of 512 takes longer than the measuring
    descent        one step at a time around the fastest so far, until no step helps (Droplet search)

Droplet search: Canesche et al., "The Droplet Search Algorithm for Kernel Scheduling", ACM TACO 2024.
What was measured once is not measured again. The incumbent of the descent is the fastest of everything measured here.
With a cost model each phase proposes the most promising first, and once the model is settled about a kernel, its best
few are measured and the search ends.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tailorbird.tune.kernels import choices_of, decide, decisions_of, ms, replay_trace, workload_key
from tailorbird.tune.space import neighbours

_derived: Any = importlib.import_module("tvm.ir.utils").derived_object

_DESCENT = 0.2  # share of the trials
_PATIENCE = 3  # batches of evolution that hold nothing new
_NEAR = 48  # steps around the fastest that a cost model is asked about


class Costs(Protocol):
    """A cost model as one kernel's search needs it (tune.cost.learned). settled: no more need be measured than its last
    word, the best `verify` of what is left."""

    verify: int
    settled: bool

    def scores(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """A score for each of MetaSchedule's candidates, higher is faster."""
        ...


def small_evolution() -> Any:
    """MetaSchedule's evolutionary search at a size that one core finishes in a second or two per round."""
    return ms.search_strategy.EvolutionarySearch(
        population_size=64, genetic_num_iters=2, init_measured_ratio=0.5, init_min_unmeasured=32
    )


@_derived
class SeededSearch(ms.search_strategy.PySearchStrategy):
    """Seeds, evolution, descent. seeds: stored traces (tune.traces), of this kernel or carried over to it.

    evolution: the strategy in the middle; descent: share of the trials kept for the end; known: traces of this kernel
    that were measured before, with their seconds: they are not proposed again, and the descent may start from them. A
    trace that the kernel does not take is passed over. cost: orders what is proposed; without, evolution alone is
    ranked. One object serves one kernel; MetaSchedule clones it for each.
    """

    def __init__(
        self,
        seeds: Sequence[str] = (),
        evolution: Any = None,
        descent: float = _DESCENT,
        known: Sequence[tuple[str, float]] = (),
        cost: Costs | None = None,
    ) -> None:
        super().__init__()
        self._cost = cost
        self._context: Any = None
        self._known = tuple(known)
        self._seeds = tuple(seeds)
        self._evolution = evolution or small_evolution()
        self._descent = descent
        self._mod: Any = None
        self._postprocs: tuple[Any, ...] = ()
        self._left = self._kept = 0
        self._batch = 1

    def _reset(self, trials: int, batch: int) -> None:
        self._left, self._batch = trials, max(1, batch)
        self._kept = int(trials * self._descent)
        self._phase = "seeds"
        self._waiting: list[Any] | None = None
        self._seen: set[str] = set()
        self._best: tuple[float, Any] | None = None
        self._steps: Iterator[Any] = iter(())
        for trace, seconds in self._known:
            for schedule in self._replayed(trace):
                self._fresh([schedule])
                if self._best is None or seconds < self._best[0]:
                    self._best = (seconds, schedule)

    def _initialize_with_tune_context(self, context: Any) -> None:
        """MetaSchedule hands over the kernel."""
        self._mod = context.mod
        self._postprocs = tuple(context.space_generator.postprocs)
        # For features; the context that is handed over holds this strategy, and would never be freed.
        self._context = ms.TuneContext(mod=context.mod, target=context.target, num_threads=1)
        self._evolution._initialize_with_tune_context(context)  # noqa: SLF001  (its public name in C++)

    def pre_tuning(
        self,
        max_trials: int,
        num_trials_per_iter: int,
        design_spaces: Any,
        database: Any = None,
        cost_model: Any = None,
    ) -> None:
        """Begin; evolution learns from the database and is ranked by the cost model."""
        self._reset(int(max_trials), int(num_trials_per_iter))
        self._evolution.pre_tuning(max_trials, num_trials_per_iter, design_spaces, database, cost_model)

    def post_tuning(self) -> None:
        """End."""
        self._evolution.post_tuning()

    def generate_measure_candidates(self) -> Any:
        """The next batch; None when there is nothing left to try, or the trials are used up."""
        room = min(self._batch, self._left)
        if room <= 0:
            return None
        batch: list[Any] = []
        if self._cost is not None and self._cost.settled:
            batch = self._last_word(min(room, self._cost.verify))
            self._left, self._phase = len(batch), "over"
        if self._phase == "seeds":
            batch = self._next_seeds(room)
            self._phase = self._phase if batch else "evolution"
        if self._phase == "evolution" and not batch:
            batch = self._evolved(room)
            if not batch:
                self._phase, self._steps = "descent", self._around_best()
        if self._phase == "descent" and not batch:
            batch = self._descended(room)
        self._left -= len(batch)
        return [_candidate(schedule) for schedule in batch] or None

    def notify_runner_results(self, measure_candidates: Any, results: Any) -> None:
        """Learn what a batch took."""
        for candidate, result in zip(measure_candidates, results, strict=True):
            seconds = [float(second) for second in result.run_secs or ()]
            if result.error_msg is None and seconds:
                taken = sum(seconds) / len(seconds)
                if self._best is None or taken < self._best[0]:
                    self._best = (taken, candidate.sch)
                    if self._phase == "descent":
                        self._steps = self._around_best()
        if self._phase == "evolution":
            self._evolution.notify_runner_results(measure_candidates, results)

    def clone(self) -> Any:
        """A fresh strategy for another kernel, with the same seeds."""
        return SeededSearch(self._seeds, self._evolution.clone(), self._descent, self._known, self._cost)

    def _next_seeds(self, room: int) -> list[Any]:
        if self._waiting is None:
            self._waiting = self._promising([schedule for seed in self._seeds for schedule in self._replayed(seed)])
        batch: list[Any] = []
        while self._waiting and len(batch) < room:
            batch += self._fresh([self._waiting.pop(0)])
        return batch

    def _promising(self, schedules: list[Any]) -> list[Any]:
        """The same, those first that the cost model thinks fastest; as they are without one."""
        if self._cost is None or len(schedules) < 2:
            return schedules
        scores = self._cost.scores(self._context, [_candidate(schedule) for schedule in schedules])
        order = sorted(range(len(schedules)), key=lambda index: -scores[index])
        return [schedules[index] for index in order]

    def _last_word(self, room: int) -> list[Any]:
        """What a settled cost model thinks fastest of all that evolution and descent would go on with."""
        if room <= 0:
            return []
        found = self._evolution.generate_measure_candidates() or ()
        schedules = [*(self._waiting or ()), *(candidate.sch for candidate in found), *self._around_best()]
        batch: list[Any] = []
        for schedule in self._promising(schedules):
            batch += self._fresh([schedule])
            if len(batch) == room:
                break
        return batch

    def _replayed(self, trace: str) -> list[Any]:
        """The schedule of a stored trace; nothing when the kernel does not take it."""
        try:
            return [replay_trace(self._mod, trace, self._postprocs)]
        except Exception:  # TVM raises what it likes
            return []

    def _evolved(self, room: int) -> list[Any]:
        room = min(room, self._left - self._kept)
        for _ in range(_PATIENCE):
            if room <= 0:
                return []
            found = self._evolution.generate_measure_candidates()
            if found is None:
                return []
            batch = self._fresh([candidate.sch for candidate in found])[:room]
            if batch:
                return batch
            self._evolution.notify_runner_results([], [])
        return []

    def _descended(self, room: int) -> list[Any]:
        batch: list[Any] = []
        for schedule in self._steps:
            batch += self._fresh([schedule])
            if len(batch) == room:
                break
        return batch

    def _around_best(self) -> Iterator[Any]:
        """Schedules one step from the fastest; nothing when nothing ran."""
        if self._best is None:
            return
        steps = self._steps_from(self._best[1])
        if self._cost is None:
            yield from steps
            return
        while near := list(itertools.islice(steps, _NEAR)):
            yield from self._promising(near)

    def _steps_from(self, best: Any) -> Iterator[Any]:
        for decisions in neighbours(choices_of(best.trace), decisions_of(best)):
            try:
                yield decide(self._mod, best.trace, decisions, self._postprocs)
            except Exception:  # noqa: S112  (a step that the kernel's schedule rules refuse)
                continue

    def _fresh(self, schedules: Sequence[Any]) -> list[Any]:
        """Those not proposed before, which from now on they are."""
        fresh = []
        for schedule in schedules:
            key = workload_key(schedule.mod)
            if key not in self._seen:
                self._seen.add(key)
                fresh.append(schedule)
        return fresh


def _candidate(schedule: Any) -> Any:
    # Of the scheduled module: packing changes the weight's shape.
    arguments = ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True)
    return ms.search_strategy.MeasureCandidate(schedule, arguments)
