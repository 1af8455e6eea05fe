"""Batches as users' loaders give them: `(inputs, labels)`, inputs being a tensor or a tuple of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tailorbird.errors import UsageError


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs (N, ...) of one step and their labels (N,), if there are any."""

    inputs: tuple[Tensor, ...]
    labels: Tensor | None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.inputs[0].shape[0]

    def head(self, count: int) -> Batch:
        """The first samples; inputs that do not have one entry for each sample stay whole."""
        if count >= self.size:
            return self
        inputs = tuple(x[:count] if x.ndim and x.shape[0] == self.size else x for x in self.inputs)
        return Batch(inputs, None if self.labels is None else self.labels[:count])

    def known(self) -> Tensor:
        """The labels. Raises: UsageError without labels."""
        if self.labels is None:
            raise UsageError("this loader gives no labels", fix="yield (inputs, labels) from the loader")
        return self.labels


def read(loader: Iterable[Any], device: torch.device, limit: int | None = None) -> Iterator[Batch]:
    """Batches of a loader on a device, at most `limit` samples in all. Raises: UsageError for other batches."""
    left = limit
    for item in loader:
        batch = _batch(item, device)
        if left is not None:
            batch = batch.head(left)
            left -= batch.size
        yield batch
        if left is not None and left <= 0:
            return


def _batch(item: Any, device: torch.device) -> Batch:
    if isinstance(item, Tensor):
        return Batch((item.to(device),), None)
    if not isinstance(item, list | tuple) or len(item) != 2 or not isinstance(item[1], Tensor):
        raise UsageError(
            "the loader gives something other than (inputs, labels)",
            why=f"got {type(item).__name__}",
            fix="yield a tensor of inputs, or a pair of inputs (a tensor or a tuple of tensors) and labels",
        )
    inputs = item[0] if isinstance(item[0], list | tuple) else (item[0],)
    return Batch(tuple(x.to(device) for x in inputs), item[1].to(device))


def logits(output: Any) -> Tensor:
    """The scores (N, ..., classes) in a network's output: its first floating-point tensor."""
    found = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not found:
        raise UsageError(
            "the network's output holds no scores", fix="pass `loss` and evaluate with a function of your own"
        )
    return found[0]
