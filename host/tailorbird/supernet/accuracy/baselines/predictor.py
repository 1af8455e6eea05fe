"""AccuracyPredictor: what predicts the accuracy of subnets, and the one way a mere ranking becomes an accuracy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.evaluation import Evaluations
from tailorbird.supernet.space import SearchSpace
from tailorbird.types import Config


class AccuracyPredictor(Protocol):
    """Predicts the accuracy of subnets of one SuperNet, and says what that has cost so far."""

    @property
    def name(self) -> str:
        """A short name, for tables."""
        ...

    @property
    def calibrated(self) -> bool:
        """Whether predictions are accuracies (fractions); otherwise only their order means something."""
        ...

    @property
    def evaluations(self) -> int:
        """Subnets that were evaluated on labelled data, anchors included."""
        ...

    @property
    def seconds(self) -> float:
        """Time spent so far: evaluations, fitting and, where it takes any, scoring."""
        ...

    def score(self, config: Config) -> float:
        """What subnets are ranked by, larger is better. Raises: UsageError for an invalid configuration."""
        ...

    def predict(self, config: Config) -> float:
        """Predicted accuracy where calibrated, else the score. Raises: UsageError for an invalid configuration."""
        ...


class Scored:
    """Ranks subnets by a number; a decreasing curve through anchors turns it into accuracy.

    The curve falls with the distance of the score from the best anchor's. It is flat where anchors of a better score
    were less accurate (isotonic regression), and beyond the anchors; `score` still tells such subnets apart. Scores are
    kept, so that each subnet is scored once.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        measure: Callable[[Config], float],
        anchors: Evaluations | None = None,
        *,
        calibrated: bool = False,
        evaluations: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """measure: a canonical configuration's score; calibrated: whether it is an accuracy already, without anchors;
        evaluations, seconds: what was spent on it, anchors aside.

        Raises: UsageError when no anchor has a finite score.
        """
        self._name = name
        self._space = space
        self._measure = measure
        self._known: dict[Config, float] = {}
        self._evaluations = evaluations + (len(anchors) if anchors else 0)
        self._seconds = seconds + (anchors.seconds if anchors else 0.0)
        self._calibrated = calibrated or bool(anchors)
        self._best = 0.0
        self._curve: DecreasingCurve | None = None
        if anchors:
            scores = [self.score(anchor.config) for anchor in anchors.found]
            self._best = max(scores)
            if not math.isfinite(self._best):
                raise UsageError(
                    f"{name} gives no finite score to any anchor", why=f"the best is {self._best}", fix="take others"
                )
            points = [(self._best - s, anchor.accuracy) for s, anchor in zip(scores, anchors.found, strict=True)]
            self._curve = DecreasingCurve.fit([point for point in points if math.isfinite(point[0])])

    def __repr__(self) -> str:
        return f"Scored({self._name}, {self._evaluations} evaluations)"

    @property
    def name(self) -> str:
        return self._name

    @property
    def calibrated(self) -> bool:
        return self._calibrated

    @property
    def evaluations(self) -> int:
        return self._evaluations

    @property
    def seconds(self) -> float:
        return self._seconds

    def score(self, config: Config) -> float:
        chosen = self._space.canonical(config)
        if chosen not in self._known:
            begin = time.monotonic()
            self._known[chosen] = self._measure(chosen)
            self._seconds += time.monotonic() - begin
        return self._known[chosen]

    def predict(self, config: Config) -> float:
        score = self.score(config)
        if self._curve is None:
            return score
        return self._curve(min(self._best - score, self._curve.xs[-1]))
