"""A search strategy for MetaSchedule that begins where the reuse ladder ended.

    seeds          schedules that other kernels lend, as they are
    evolution      MetaSchedule's own, with a small population: the stock one of 512 takes longer than the measuring
    descent        one step at a time around the fastest so far, until no step helps (Droplet search)

Droplet search: Canesche et al., "The Droplet Search Algorithm for Kernel Scheduling", ACM TACO 2024.
What was measured once is not measured again. The incumbent of the descent is the fastest of everything measured here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from tailorbird.tune.kernels import choices_of, decide, decisions_of, ms, replay_trace, workload_key
from tailorbird.tune.space import neighbours

_derived: Any = importlib.import_module("tvm.ir.utils").derived_object

_DESCENT = 0.2  # share of the trials
_PATIENCE = 3  # batches of evolution that hold nothing new


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
    trace that the kernel does not take is passed over. One object serves one kernel; MetaSchedule clones it for each.
    """

    def __init__(
        self,
        seeds: Sequence[str] = (),
        evolution: Any = None,
        descent: float = _DESCENT,
        known: Sequence[tuple[str, float]] = (),
    ) -> None:
        super().__init__()
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
        self._waiting = list(self._seeds)
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
        return SeededSearch(self._seeds, self._evolution.clone(), self._descent, self._known)

    def _next_seeds(self, room: int) -> list[Any]:
        batch: list[Any] = []
        while self._waiting and len(batch) < room:
            batch += self._fresh(self._replayed(self._waiting.pop(0)))
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
        best = self._best[1]
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
