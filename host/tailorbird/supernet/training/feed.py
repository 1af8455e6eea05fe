"""Feed: batches without end, in an order that a seed decides and a later run can go on with.

Each pass over the loader starts from random states of its own, made from the seed and the number of the pass: a loader
that shuffles or augments by torch's, numpy's or Python's global generators gives the same batches again. Loaders with
an order of their own are told the number of the pass by `set_epoch`, as torch's DistributedSampler is.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import Batch, read

_PRIME = 1_000_003


class Feed:
    """Batches of a loader, pass after pass. epoch, place: where the next batch comes from."""

    def __init__(self, loader: Iterable[Any], device: torch.device, seed: int) -> None:
        self._loader, self._device, self._seed = loader, device, seed
        self.epoch = 0
        self.place = 0

    def length(self) -> int | None:
        """Batches in one pass, None where the loader does not say."""
        try:
            return len(self._loader)  # type: ignore[arg-type]
        except TypeError:
            return None

    def batches(self, passes: int | None = None) -> Iterator[Batch]:
        """Batches from where the feed stands, for so many passes in all (None: for ever).

        Raises: UsageError for a loader that gives no batch.
        """
        while passes is None or self.epoch < passes:
            self._begin()
            given = 0
            for batch in read(self._loader, self._device):
                given += 1
                if given <= self.place:
                    continue  # done in an earlier run; reading it moved the random states to where they were
                self.place = given
                yield batch
            if not given:
                raise UsageError(
                    "the training loader gave no batch",
                    why="it is empty, or a generator that was used up",
                    fix="pass a DataLoader or a list of batches, which can be read more than once",
                )
            self.epoch, self.place = self.epoch + 1, 0

    def _begin(self) -> None:
        seed = (self._seed * _PRIME + self.epoch) % 2**32
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (users' data sets draw from the global generator)
        inner = [getattr(self._loader, name, None) for name in ("sampler", "batch_sampler")]
        for holder in (self._loader, *inner):
            tell = getattr(holder, "set_epoch", None)
            if callable(tell):
                tell(self.epoch)
