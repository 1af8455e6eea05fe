"""Schedules for kernels that nobody lends any: drawn where fast ones lie, ranked by what was measured in this run.

A kernel's first schedules are its siblings' in this very run, refitted to its extents. Then come draws from the
register-tiling prior (tune.space) and changes to the kernel's best, of which a cost model learnt from all kernels'
measurements chooses. It costs no compiler: a pick takes about a millisecond.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tailorbird.tune.model import ThroughputModel
from tailorbird.tune.space import Decisions, KernelSpace, VectorUnit, features, mutate, refit, sample
from tailorbird.types.schedule import ScheduleRecord

_POOL = 24  # candidates drawn from the prior for each one measured, once the model can rank them
_PARENTS = 3  # best schedules that are mutated
_DONORS = 3  # sibling kernels whose decisions are refitted
_EXPLORE = 0.15  # share of picks that ignore the model
_ASSUMED_FLOPS_PER_US = 2e4  # before anything is measured
_FIXED_US = 2.0  # a kernel without arithmetic still copies


@dataclass(frozen=True, slots=True)
class Pick:
    """One schedule to be measured: a kernel's sketch and decisions."""

    workload: str
    sketch: int
    decisions: Decisions

    @property
    def key(self) -> tuple[str, int, str]:
        """Identity among everything tried."""
        return (self.workload, self.sketch, json.dumps(self.decisions))


@dataclass(slots=True)
class _State:
    """What is known of a kernel. planned: picks made, measured or not."""

    space: KernelSpace
    planned: int = 0
    ranked: list[tuple[float, int, Decisions]] = field(default_factory=list)  # (us, sketch, decisions), best first


class Opening:
    """Picks schedules and learns from records. Deterministic for a seed and a sequence of results."""

    def __init__(self, spaces: Sequence[KernelSpace], unit: VectorUnit, seed: int) -> None:
        self._kernels = {space.workload: _State(space) for space in spaces}
        self._unit = unit
        self._rng = random.Random(seed)  # noqa: S311  (a search, not a secret)
        self._model = ThroughputModel(seed)
        self._stale = False
        self._tried: set[tuple[str, int, str]] = set()
        self._donors: dict[str, dict[tuple[str, int], tuple[float, tuple[int, ...], int, Decisions]]] = {}
        self._class_rate: dict[str, float] = {}

    def learn(self, record: ScheduleRecord) -> None:
        """Take in a record, of this run or of an earlier one, of one of the kernels or of a sibling."""
        decisions = tuple(tuple(d) if isinstance(d, list) else d for d in json.loads(record.decisions_json))
        self._tried.add(Pick(record.workload, record.sketch, decisions).key)
        kernel = self._kernels.get(record.workload)
        if kernel is not None and record.sketch >= len(kernel.space.sketches):
            return  # of a release whose sketches are others
        if record.cpu_us is None:
            return
        if kernel is not None:
            kernel.ranked.append((record.cpu_us, record.sketch, decisions))
            kernel.ranked.sort(key=lambda entry: entry[0])
            rate = kernel.space.flops / record.cpu_us
            if record.sketch >= 0 and rate > 0:
                self._model.observe(features(kernel.space, record.sketch, decisions, self._unit), math.log2(rate))
                self._stale = True
                known = self._class_rate.get(record.kernel_class, 0.0)
                self._class_rate[record.kernel_class] = max(known, rate)
        if record.sketch >= 0:
            siblings = self._donors.setdefault(record.kernel_class, {})
            key = (record.workload, record.sketch)
            if key not in siblings or record.cpu_us < siblings[key][0]:
                siblings[key] = (record.cpu_us, record.extents, record.sketch, decisions)

    def expected_us(self, workload: str, flops: float) -> float:
        """What a kernel should take at the best rate seen in its class."""
        kernel = self._kernels.get(workload)
        rate = 0.0 if kernel is None else self._class_rate.get(kernel.space.kernel_class, 0.0)
        return flops / (rate or _ASSUMED_FLOPS_PER_US) + _FIXED_US

    def pick(self, workload: str) -> Pick | None:
        """The next schedule to try on a kernel; None when its space is exhausted."""
        if self._stale:
            self._model.fit()
            self._stale = False
        kernel = self._kernels[workload]
        chosen = self._chosen(kernel)
        if chosen is not None:
            kernel.planned += 1
            self._tried.add(chosen.key)
        return chosen

    def _chosen(self, kernel: _State) -> Pick | None:
        space = kernel.space
        transferred = self._transfers(kernel)
        if transferred and kernel.planned < _DONORS:
            return transferred[0]
        pool = transferred + self._mutants(kernel)
        for _ in range(_POOL if space.sketches else 0):
            sketch = self._rng.randrange(len(space.sketches))
            pool.append(Pick(space.workload, sketch, sample(space.sketches[sketch], self._unit, self._rng)))
        fresh = list({pick.key: pick for pick in pool if pick.key not in self._tried}.values())
        if not fresh:
            return None
        if self._rng.random() < _EXPLORE:
            return self._rng.choice(fresh)
        scores = self._model.predict([features(space, p.sketch, p.decisions, self._unit) for p in fresh])
        return fresh[int(np.argmax(scores))] if np.ptp(scores) > 0 else self._rng.choice(fresh)

    def _transfers(self, kernel: _State) -> list[Pick]:
        """The nearest siblings' best decisions on this kernel's extents, untried ones."""
        space = kernel.space
        siblings = self._donors.get(space.kernel_class, {})
        others = [entry for (workload, _), entry in siblings.items() if workload != space.workload]
        others.sort(key=lambda entry: space.distance(entry[1]))
        picks = []
        for _, _, sketch, decisions in others[:_DONORS]:
            fitted = refit(decisions, space.sketches[sketch]) if sketch < len(space.sketches) else None
            if fitted is not None:
                picks.append(Pick(space.workload, sketch, fitted))
        return [pick for pick in picks if pick.key not in self._tried]

    def _mutants(self, kernel: _State) -> list[Pick]:
        parents = [entry for entry in kernel.ranked[:_PARENTS] if entry[1] >= 0]
        return [
            Pick(kernel.space.workload, sketch, mutate(kernel.space.sketches[sketch], decisions, self._rng))
            for _, sketch, decisions in parents
            for _ in range(4)
        ]
