"""Which schedule to try next: what is known of each kernel, and how the few measurements are shared among them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tailorbird.tune.model import ThroughputModel
from tailorbird.tune.space import (
    DEFAULT_SKETCH,
    Decisions,
    KernelSpace,
    VectorUnit,
    features,
    mutate,
    refit,
    sample,
)
from tailorbird.types.schedule import ScheduleRecord

_POOL = 24  # candidates drawn from the prior for each one measured, once the model can rank them
_PARENTS = 3  # best schedules that are mutated
_DONORS = 3  # sibling kernels whose decisions are refitted
_EXPLORE = 0.15  # share of picks that ignore the model
_LIGHT_FLOPS = 3e5  # below this, plain loops may well be the fastest
_UNTUNED_SLOWDOWN = 40.0  # plain loops against a tiled kernel: every kernel gets one schedule before any gets two
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
class KernelState:
    """A kernel in the search. weight: calls over all rungs; planned counts picks made, measured or not."""

    space: KernelSpace
    path: Path
    weight: int
    planned: int = 0
    ranked: list[tuple[float, int, Decisions]] = field(default_factory=list)  # (us, sketch, decisions), best first

    @property
    def best_us(self) -> float | None:
        """Fastest time measured."""
        return self.ranked[0][0] if self.ranked else None


class Search:
    """Proposes picks and learns from records. Deterministic for a seed and a sequence of results."""

    def __init__(self, kernels: Sequence[KernelState], unit: VectorUnit, seed: int) -> None:
        self.kernels = {kernel.space.workload: kernel for kernel in kernels}
        self._unit = unit
        self._rng = random.Random(seed)  # noqa: S311  (a search, not a secret)
        self._model = ThroughputModel(seed)
        self._tried: set[tuple[str, int, str]] = set()
        self._donors: dict[str, dict[tuple[str, int], tuple[float, tuple[int, ...], int, Decisions]]] = {}
        self._class_rate: dict[str, float] = {}

    def learn(self, record: ScheduleRecord) -> None:
        """Take in a record, of this run or of an earlier one, of a kernel in this search or of a sibling."""
        decisions = tuple(tuple(d) if isinstance(d, list) else d for d in json.loads(record.decisions_json))
        self._tried.add(Pick(record.workload, record.sketch, decisions).key)
        kernel = self.kernels.get(record.workload)
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
                known = self._class_rate.get(record.kernel_class, 0.0)
                self._class_rate[record.kernel_class] = max(known, rate)
        if record.sketch >= 0:
            siblings = self._donors.setdefault(record.kernel_class, {})
            key = (record.workload, record.sketch)
            if key not in siblings or record.cpu_us < siblings[key][0]:
                siblings[key] = (record.cpu_us, record.extents, record.sketch, decisions)

    def propose(self, count: int) -> list[Pick]:
        """The next picks, most promising kernels first; fewer when the spaces are exhausted."""
        self._model.fit()
        picks: list[Pick] = []
        open_kernels = set(self.kernels)
        while len(picks) < count and open_kernels:
            workload = max(sorted(open_kernels), key=self._promise)
            pick = self._pick(self.kernels[workload])
            if pick is None:
                open_kernels.discard(workload)
                continue
            self.kernels[workload].planned += 1
            self._tried.add(pick.key)
            picks.append(pick)
        return picks

    def _promise(self, workload: str) -> float:
        """Microseconds per pass over all rungs that another measurement may hope to win."""
        kernel = self.kernels[workload]
        rate = self._class_rate.get(kernel.space.kernel_class, 0.0)
        expected = kernel.space.flops / (rate or _ASSUMED_FLOPS_PER_US) + _FIXED_US
        if not kernel.planned and kernel.best_us is None:
            return kernel.weight * expected * _UNTUNED_SLOWDOWN
        known_us = kernel.best_us or expected
        gap = max(0.0, 1.0 - expected / known_us)
        return kernel.weight * known_us * (gap + 0.5) / (1 + kernel.planned)

    def _pick(self, kernel: KernelState) -> Pick | None:
        space = kernel.space
        if space.flops < _LIGHT_FLOPS:
            default = Pick(space.workload, DEFAULT_SKETCH, ())
            if default.key not in self._tried:
                return default
        transferred = self._transfers(kernel)
        if transferred and kernel.planned < _DONORS:
            return transferred[0]
        pool = transferred + self._mutants(kernel)
        for _ in range(_POOL):
            sketch = self._rng.randrange(len(space.sketches))
            pool.append(Pick(space.workload, sketch, sample(space.sketches[sketch], self._unit, self._rng)))
        fresh = list({pick.key: pick for pick in pool if pick.key not in self._tried}.values())
        if not fresh:
            return None
        if self._rng.random() < _EXPLORE:
            return self._rng.choice(fresh)
        scores = self._model.predict([features(space, p.sketch, p.decisions, self._unit) for p in fresh])
        return fresh[int(np.argmax(scores))] if np.ptp(scores) > 0 else self._rng.choice(fresh)

    def _transfers(self, kernel: KernelState) -> list[Pick]:
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

    def _mutants(self, kernel: KernelState) -> list[Pick]:
        parents = [entry for entry in kernel.ranked[:_PARENTS] if entry[1] >= 0]
        return [
            Pick(kernel.space.workload, sketch, mutate(kernel.space.sketches[sketch], decisions, self._rng))
            for _, sketch, decisions in parents
            for _ in range(4)
        ]
