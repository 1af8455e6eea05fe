"""Which indices of each group a configuration keeps, and how stored tensors are cut accordingly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailorbird.graph import Atom, Block, Dim, ElasticGraph
from tailorbird.types import Config

Cuts = tuple[tuple[int, Tensor], ...]

_LARGE = 2**15  # entries from which a faster gradient outweighs the cost of a Python function


@dataclass(frozen=True, slots=True)
class Selection:
    """A configuration in terms of the graph: kept indices (sorted, int64) of each cut atom, and skipped blocks.

    The atoms are those of groups and of the spatial axes of kernels.
    """

    kept: Mapping[Atom, Tensor]
    skipped: tuple[Block, ...]

    @property
    def sizes(self) -> dict[Atom, int]:
        """Kept size of each cut atom."""
        return {atom: len(indices) for atom, indices in self.kept.items()}

    def cuts(self, dims: tuple[Dim, ...]) -> Cuts:
        """(axis, indices) for every axis of a stored tensor that shrinks."""
        found = []
        for axis, dim in enumerate(dims):
            if any(atom in self.kept for segment in dim for atom in segment):
                found.append((axis, self._indices(dim)))
        return tuple(found)

    def _indices(self, dim: Dim) -> Tensor:
        parts, offset = [], 0
        for segment in dim:
            indices, size = torch.zeros(1, dtype=torch.int64), 1
            for atom in segment:
                kept = self.kept.get(atom)
                within = torch.arange(atom.size) if kept is None else kept
                indices = (indices[:, None] * atom.size + within[None, :]).flatten()
                size *= atom.size
            parts.append(indices + offset)
            offset += size
        return torch.cat(parts)


def select(config: Config, graph: ElasticGraph, orders: Mapping[str, Tensor]) -> Selection:
    """The selection of a canonical configuration: of each group the k most important indices, of a kernel its centre.

    Keep sets nest, they keep their original order, and the full configuration is the identity.
    """
    groups = {group.name: group for group in graph.groups}
    kernels = {kernel.name: kernel for kernel in graph.kernels}
    blocks = {block.name: block for block in graph.blocks}
    kept: dict[Atom, Tensor] = {}
    for name, size in config.sizes:
        if name in groups:
            kept[groups[name].atom] = orders[name][:size].sort().values
        elif name in kernels:
            kept |= {atom: _centre(full, entries) for atom, full, entries in kernels[name].axes(size)}
    return Selection(kept, tuple(blocks[name] for name in config.skipped))


def _centre(full: int, kept: int) -> Tensor:
    start = (full - kept) // 2
    return torch.arange(start, start + kept)


def cut(tensor: Tensor, cuts: Cuts) -> Tensor:
    """Cut a tensor; gradients of the result flow into it."""
    if tensor.numel() >= _LARGE and tensor.requires_grad and cuts and torch.is_grad_enabled():
        return _Cut.apply(tensor, *(part for axis, indices in cuts for part in (axis, indices.to(tensor.device))))
    result = tensor
    for axis, indices in cuts:
        result = result.index_select(axis, indices.to(tensor.device))
    return like_weight(result, tensor)


class _Cut(torch.autograd.Function):
    """A chain of index_select whose gradient is copied to where it belongs.

    index_select itself adds it there, since an index might be picked twice, which takes a large weight twice the time.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, *cuts: Any) -> Tensor:
        ctx.shape, ctx.axes = tensor.shape, cuts[::2]
        ctx.save_for_backward(*cuts[1::2])
        for axis, indices in zip(cuts[::2], cuts[1::2], strict=True):
            tensor = tensor.index_select(axis, indices)
        return tensor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        for axis, indices in reversed(list(zip(ctx.axes, ctx.saved_tensors, strict=True))):
            shape = list(gradient.shape)
            shape[axis] = ctx.shape[axis]
            gradient = gradient.new_zeros(shape).index_copy_(axis, indices, gradient)
        return gradient, *(None for _ in range(2 * len(ctx.axes)))


def like_weight(result: Tensor, weight: Tensor) -> Tensor:
    """A result that requires gradients if the weight it comes from does.

    Even where none are computed: torch.matmul takes another path, with another rounding, for weights that do.
    """
    if weight.requires_grad and not result.requires_grad:
        result.requires_grad_()
    return result
