"""Cost model: predicts a schedule's throughput from its features, learnt from this run's own measurements.

Extremely randomised trees (Geurts, Ernst, Wehenkel 2006): no tuning, 30 ms to fit, useful from a few dozen samples.
One model serves all kernels: the target is throughput relative to the best seen in the kernel's class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_MIN_SAMPLES = 24
_TREES = 32


class ThroughputModel:
    """Scores candidates, higher is better; zeros until there is enough to learn from."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._features: list[list[float]] = []
        self._values: list[float] = []
        self._forest: object | None = None

    def observe(self, features: Sequence[float], log_throughput: float) -> None:
        """Add one measured schedule: log2 of its operations per microsecond."""
        self._features.append(list(features))
        self._values.append(log_throughput)

    def fit(self) -> None:
        """Learn from everything observed."""
        if len(self._values) < _MIN_SAMPLES:
            return
        from sklearn.ensemble import ExtraTreesRegressor

        forest = ExtraTreesRegressor(_TREES, min_samples_leaf=2, random_state=self._seed)
        self._forest = forest.fit(np.array(self._features), np.array(self._values))

    def predict(self, features: Sequence[Sequence[float]]) -> np.ndarray:
        """Predicted log2 throughput of each schedule."""
        if self._forest is None or not len(features):
            return np.zeros(len(features))
        return self._forest.predict(np.array(features))  # type: ignore[attr-defined]
