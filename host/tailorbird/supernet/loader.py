"""Batches as users' loaders give them: `(inputs, target)`, a mapping with `labels`, or inputs alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tailorbird.errors import UsageError
from tailorbird.graph import Inputs

_TARGETS = ("labels", "label", "targets", "target")


@dataclass(frozen=True, slots=True)
class Batch:
    """What the network is called with, and what it should answer: labels (N,), or any nesting of tensors, or None."""

    inputs: Inputs
    target: Any = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return self.inputs.batch or 0

    @property
    def amount(self) -> tuple[int, str]:
        """How much there is to work on, and in what unit: tokens of sequences of numbers, images, or samples."""
        first = next(iter(self.inputs.tensors), None)
        if first is not None and first.ndim == 2 and not first.is_floating_point():
            return first.numel(), "tokens"
        return self.size, "images" if first is not None and first.ndim == 4 else "samples"

    def head(self, count: int) -> Batch:
        """The first samples; what does not have one entry for each sample stays whole."""
        return self.part(0, count)

    def part(self, start: int, stop: int) -> Batch:
        """Samples from start to before stop; what does not have one entry for each sample stays whole."""
        size = self.size
        if start <= 0 and stop >= size:
            return self

        def cut(value: Any) -> Any:
            own = isinstance(value, Tensor) and value.ndim and value.shape[0] == size
            return value[start:stop] if own else value

        # A list with one entry for each sample is how detection targets come.
        listed = isinstance(self.target, list) and len(self.target) == size
        targets = self.target[start:stop] if listed else self.target
        return Batch(self.inputs.map_batched(lambda x: x[start:stop]), pytree.tree_map(cut, targets))

    def known(self) -> Any:
        """The target. Raises: UsageError without one."""
        if self.target is None:
            raise UsageError("this loader gives no labels", fix="yield (inputs, labels) from the loader")
        return self.target


def read(loader: Iterable[Any], device: torch.device, limit: int | None = None) -> Iterator[Batch]:
    """Batches of a loader on a device, at most `limit` samples in all; a Batch is taken as it is.

    Raises: UsageError for other batches.
    """
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
    inputs, target = (item.inputs, item.target) if isinstance(item, Batch) else _parts(item)
    if not inputs.tensors or not inputs.batch:
        raise UsageError(
            "the loader gives a batch without samples",
            why="its inputs hold no tensor with a first dimension",
            fix="yield batches of at least one sample",
        )
    return Batch(inputs.map(lambda x: x.to(device)), pytree.tree_map_only(Tensor, lambda x: x.to(device), target))


def _parts(item: Any) -> tuple[Inputs, Any]:
    if isinstance(item, Tensor):
        return Inputs((item,)), None
    if isinstance(item, Mapping) and all(isinstance(name, str) for name in item):
        name = next((name for name in _TARGETS if name in item), None)
        return Inputs((), {k: v for k, v in item.items() if k != name}), None if name is None else item[name]
    if isinstance(item, list | tuple) and len(item) == 2:
        first, target = item
        if isinstance(first, Mapping):
            return Inputs((), dict(first)), target
        if isinstance(first, Tensor | list | tuple):
            return Inputs((first,) if isinstance(first, Tensor) else tuple(first)), target
    raise UsageError(
        "the loader gives something other than (inputs, labels)",
        why=f"got {type(item).__name__}" + (f" of {len(item)}" if isinstance(item, list | tuple) else ""),
        fix="yield inputs, a pair of inputs and labels, or a mapping with `labels`; "
        "inputs are a tensor, a tuple of tensors, or a mapping from names",
    )


def logits(output: Any) -> Tensor:
    """The scores (N, ..., classes) in a network's output: its first floating-point tensor."""
    found = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    if not found:
        raise UsageError(
            "the network's output holds no scores", fix="pass a `task` of your own with loss, metric and distance"
        )
    return found[0]
