"""Judge: scores of the full network, the smallest subnet and a random one during training."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.measure import Tally, evaluating, tallied
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.ranks import Ranks
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

#: A loader of (inputs, labels), or a function that scores a network given as a function of its inputs.
Validate = Iterable[Any] | Callable[[Callable[..., Any]], float]

_RECENT = 4  # training batches that subnets find their batch_norm statistics on
_IMAGES = 512  # samples that subnets are scored on: their scores are for the eye alone


class Judge:
    """Scores subnets on validation data. Their statistics come from the batches just trained on.

    Several ranks share the batches of a loader and add up what they find. A function is called on each of them, and
    what rank 0 says goes.
    """

    def __init__(self, net: SuperNet, task: Task, validate: Validate, ranks: Ranks) -> None:
        self._net, self._task, self._ranks = net, task, ranks
        #: One-shot iterators are read several times here.
        self._data = list(validate) if isinstance(validate, Iterator) else validate
        if not isinstance(validate, Iterable) and not callable(validate):
            raise UsageError(
                f"validate is a {type(validate).__name__}", fix="pass a loader, or a function that returns a score"
            )
        self._recent: deque[Any] = deque(maxlen=_RECENT)

    def saw(self, batch: Batch) -> None:
        """Remember the inputs of a training batch."""
        self._recent.append((batch.inputs.kwargs or batch.inputs.args, None))

    def first(self) -> float:
        """Score of the full network before training. Raises: UsageError when that is no score."""
        score = self._score(Config())
        if not math.isfinite(score):
            raise UsageError(
                f"the score of the network is {score} before training",
                why="the full network is protected by its score on the validation data",
                fix="let validate, or the metric, return a finite number that is larger for a better network",
            )
        return score

    def full(self) -> float:
        """Score of the full network."""
        return self._score(Config())

    def subnet(self, config: Config) -> float:
        """Score of a subnet; the net's statistics stay as they were."""
        net = self._net
        before = net.statistics(config)
        if self._recent:
            net.recalibrate(config, list(self._recent), sum(1 for _ in self._recent) * 10**6)
        try:
            return self._score(config, _IMAGES)
        finally:
            net.set_statistics(config, before)

    def _score(self, config: Config, images: int | None = None) -> float:
        net = self._net
        if callable(self._data):
            with evaluating(net):
                found: Any = self._data(lambda *args, **kwargs: net(*args, config=config, **kwargs))
            try:
                score = float(found)
            except (TypeError, ValueError, RuntimeError) as error:
                raise UsageError(
                    f"validate returned a {type(found).__name__}, not a score",
                    why=str(error),
                    fix="return one number, larger for a better network",
                ) from error
            return self._ranks.gather([score])[0][0]
        own, everyone = tallied(net, config, self._ranks.deal(self._data), images, self._task), Tally()
        for total, count in self._ranks.gather([own.total, own.count]):
            everyone.total += total
            everyone.count += count
        return everyone.mean()
