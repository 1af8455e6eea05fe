"""Ranks: the processes that train one SuperNet together. Here, what a run asks of them, and one process alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import Tensor

from tailorbird.supernet.loader import Batch

#: Facts that the ranks told each other, a row for each rank in order.
Rows = list[list[float]]


class Ranks(Protocol):
    """What a training run asks of the other processes. Every rank makes the same calls in the same order.

    Decisions must not differ between ranks, but clocks, signals and measurements do: a rank decides by what all of
    them told each other. In a step that is done by `average`, beside the gradients.
    """

    rank: int
    size: int

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """The part of a batch that this rank works on, and how many samples of the step that stands for."""
        ...

    def deal(self, loader: Iterable[Any]) -> Iterable[Any]:
        """The batches of a validation loader that this rank looks at."""
        ...

    def average(self, tensors: Sequence[Tensor], weight: float, facts: Sequence[float]) -> Rows:
        """Replace tensors by their mean over ranks, weighted, and tell facts, in one exchange."""
        ...

    def gather(self, facts: Sequence[float]) -> Rows:
        """Tell facts, in an exchange of its own."""
        ...

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0, bit for bit, in one exchange."""
        ...


class Alone:
    """One process."""

    rank = 0
    size = 1

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """The batch."""
        return batch, float(batch.size)

    def deal(self, loader: Iterable[Any]) -> Iterable[Any]:
        """All of it."""
        return loader

    def average(self, tensors: Sequence[Tensor], weight: float, facts: Sequence[float]) -> Rows:
        """Nothing to exchange."""
        del tensors, weight
        return [list(facts)]

    def gather(self, facts: Sequence[float]) -> Rows:
        """The facts."""
        return [list(facts)]

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to exchange."""
