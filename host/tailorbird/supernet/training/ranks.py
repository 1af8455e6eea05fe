"""Ranks: the processes that train one SuperNet together. Here, the case of one process alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from tailorbird.supernet.loader import Batch


class Ranks(Protocol):
    """What a training run asks of the other processes. Every rank makes the same calls in the same order."""

    rank: int
    size: int

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their mean over ranks, in one exchange."""

    def first(self, value: float) -> float:
        """The value of rank 0: clocks differ, and decisions must not."""

    def share(self, batch: Batch) -> Batch:
        """The part of a batch that this rank works on."""


class Alone:
    """One process."""

    rank = 0
    size = 1

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Nothing to exchange."""

    def first(self, value: float) -> float:
        """The value."""
        return value

    def share(self, batch: Batch) -> Batch:
        """The batch."""
        return batch
