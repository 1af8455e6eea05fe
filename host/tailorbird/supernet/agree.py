"""Agree: whether two outputs of a network are the same, and inputs of another batch to compare them on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tailorbird.graph import Inputs

#: Rounding of a fused kernel that eager mode takes and the captured graph does not.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}
_OTHER_BATCHES = (2, 3)  # one of them is not the example's


def agree(left: Any, right: Any, *, rtol: float = 0.0, atol: float = 0.0) -> bool:
    """Whether two outputs agree in structure and every leaf: bitwise (NaN equals NaN) unless tolerances are given."""
    (mine, structure), (other, wanted) = pytree.tree_flatten(left), pytree.tree_flatten(right)
    return structure == wanted and all(_equal(a, b, rtol, atol) for a, b in zip(mine, other, strict=True))


def _equal(left: Any, right: Any, rtol: float, atol: float) -> bool:
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return type(left) is type(right) and left == right
    if left.shape != right.shape or left.dtype != right.dtype or left.device != right.device:
        return False
    if not left.is_floating_point() and not left.is_complex():
        return bool(left.equal(right))
    return torch.allclose(left, right, rtol=rtol, atol=atol, equal_nan=True)


def at_another_batch(inputs: Inputs) -> Inputs:
    """The same samples as a batch of another size."""
    batch = next(size for size in _OTHER_BATCHES if size != inputs.batch)
    return inputs.map_batched(lambda x: _samples(x, batch))


def _samples(x: Tensor, batch: int) -> Tensor:
    """A batch of the samples at hand; where they repeat, rolled along the last axis, so that mixed up ones differ."""
    rows = [x[row % len(x)].roll(row // len(x), -1) if x.ndim > 1 else x[row % len(x)] for row in range(batch)]
    return torch.stack(rows)
