"""The cost model in a tuning run: one network for a class of boards, which all kernels' searches ask and teach.

    costs = LearnedCosts(boards, adaptation("fine-tune", load().network), ThreeSigns)
    kernel = costs.kernel(key)
    SeededSearch(..., cost=kernel)                  # orders what it proposes, and ends when the kernel is settled
    context.pre_tuning(..., cost_model=kernel.model)  # MetaSchedule's evolution ranks its population by it
    kernel.model.update(context, candidates, results)

Training starts over all records whenever there are a quarter more of them, as MetaSchedule's own model does, so what it
costs stays in proportion to the measuring.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tailorbird.tune.cost.adapt import Adaptation
from tailorbird.tune.cost.controller import Controller, Never, Seen
from tailorbird.tune.cost.corpus import Task
from tailorbird.tune.cost.features import Floats, candidate_features
from tailorbird.tune.cost.network import scores_of
from tailorbird.tune.cost.saved import save
from tailorbird.tune.kernels import ms
from tailorbird.types.schedule import DeviceClass

_derived: Any = importlib.import_module("tvm.ir.utils").derived_object

_GROWTH = 0.25
_LEAST_NEW = 8


@dataclass(slots=True)
class _Records:
    features: list[Floats] = field(default_factory=list)
    times_us: list[float] = field(default_factory=list)


class LearnedCosts:
    """Not for several threads at once. model_s: seconds spent on features, scoring and learning."""

    def __init__(
        self, boards: DeviceClass, adaptation: Adaptation, controller: Callable[[], Controller] = Never
    ) -> None:
        self.boards = boards
        self.adaptation = adaptation
        self.model_s = 0.0
        self._controller = controller
        self._kernels: dict[str, KernelCosts] = {}
        self._records: dict[str, _Records] = {}
        self._learnt = 0

    def kernel(self, key: str) -> KernelCosts:
        """What a kernel's search asks; the same object for the same key (structural hash)."""
        if key not in self._kernels:
            self._kernels[key] = KernelCosts(self, key, self._controller())
            self._records[key] = _Records()
        return self._kernels[key]

    @property
    def records(self) -> int:
        """Schedules taken in, failures included."""
        return sum(len(each.times_us) for each in self._records.values())

    def task(self, key: str, features: Sequence[Floats], times_us: Sequence[float]) -> Task:
        """Schedules of a kernel as the network takes them."""
        return Task(key, "", "", self.boards, tuple(features), np.asarray(times_us, np.float64))

    def learn(self, key: str, features: Sequence[Floats], times_us: Sequence[float]) -> None:
        """Take in records of a kernel, NaN for a failed one, and train when there are enough new ones."""
        self.kernel(key)
        mine = self._records[key]
        mine.features += features
        mine.times_us += times_us
        if self.records - self._learnt >= max(_LEAST_NEW, _GROWTH * self._learnt):
            self._learnt = self.records
            self.adaptation.update(
                [self.task(of, each.features, each.times_us) for of, each in self._records.items() if each.times_us]
            )


class KernelCosts:
    """The cost model as one kernel sees it. verify: candidates to measure once it is settled."""

    def __init__(self, costs: LearnedCosts, key: str, controller: Controller) -> None:
        self._costs = costs
        self._key = key
        self._controller = controller
        self.verify = controller.verify
        self.settled = False
        self.model: Any = _KernelModel(self)

    def scores(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """(candidates,) in (0, 1), higher is faster; 0 for one that stores nothing."""
        begun = time.perf_counter()
        features = candidate_features(context, candidates)
        found = self._scores(features)
        self._costs.model_s += time.perf_counter() - begun
        return found

    def learn(self, context: Any, candidates: Sequence[Any], times_us: Sequence[float]) -> None:
        """Take in a batch's times, NaN for failures; `settled` when the controller says so."""
        begun = time.perf_counter()
        features = candidate_features(context, candidates)
        scores = self._scores(features)
        batch = Seen(tuple(_logit(scores)), tuple(times_us))
        self.settled = self._controller.observe(batch) or self.settled
        useful = [(each, taken) for each, taken in zip(features, times_us, strict=True) if len(each)]
        self._costs.learn(self._key, [each for each, _ in useful], [taken for _, taken in useful])
        self._costs.model_s += time.perf_counter() - begun

    def _scores(self, features: Sequence[Floats]) -> npt.NDArray[np.float64]:
        found = np.zeros(len(features), np.float64)
        stored = [index for index, each in enumerate(features) if len(each)]
        if stored:
            task = self._costs.task(self._key, [features[index] for index in stored], [math.nan] * len(stored))
            raw = scores_of(self._costs.adaptation.network, task).astype(np.float64)
            found[stored] = 1.0 / (1.0 + np.exp(-raw))
        return found


def _logit(scores: npt.NDArray[np.float64]) -> list[float]:
    inside = np.clip(scores, 1e-9, 1.0 - 1e-9)
    return np.log(inside / (1.0 - inside)).tolist()


@_derived
class _KernelModel(ms.cost_model.PyCostModel):
    """The same as MetaSchedule's evolution sees it."""

    def __init__(self, kernel: KernelCosts) -> None:
        super().__init__()
        self._kernel = kernel

    def load(self, path: str) -> None:
        """Networks are loaded before a run (tune.cost.saved)."""
        raise NotImplementedError(f"{path}: load it with tailorbird.tune.cost.saved")

    def save(self, path: str) -> None:
        """Write the network as it is now."""
        from tailorbird.compile.tvm.target import compiler

        costs = self._kernel._costs  # noqa: SLF001  (one object in two halves)
        network = costs.adaptation.network
        save(network, Path(path), compiler=compiler(), records=costs.records, boards=(costs.boards.name,))

    def update(self, context: Any, candidates: Sequence[Any], results: Sequence[Any]) -> None:
        """Take in what a batch took."""
        times = [_microseconds(result) for result in results]
        self._kernel.learn(context, list(candidates), times)

    def predict(self, context: Any, candidates: Sequence[Any]) -> npt.NDArray[np.float64]:
        """Positive scores, higher is faster."""
        return self._kernel.scores(context, list(candidates))


def _microseconds(result: Any) -> float:
    seconds = [float(each) for each in result.run_secs or ()]
    return math.nan if result.error_msg is not None or not seconds else 1e6 * sum(seconds) / len(seconds)
