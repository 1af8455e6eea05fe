"""Which indices of each group a configuration keeps, and how stored tensors are cut accordingly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tailorbird.graph import Atom, Block, Dim, ElasticGraph
from tailorbird.types import Config

Cuts = tuple[tuple[int, Tensor], ...]


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
    """Cut a tensor; gradients of the result flow into it.

    Without gradients the result still claims to require them if the tensor does: torch.matmul takes another path, with
    another rounding, for weights that do.
    """
    result = tensor
    for axis, indices in cuts:
        result = result.index_select(axis, indices.to(tensor.device))
    return like_weight(result, tensor)


def like_weight(result: Tensor, weight: Tensor) -> Tensor:
    """A result that requires gradients if the weight it comes from does."""
    if weight.requires_grad and not result.requires_grad:
        result.requires_grad_()
    return result
