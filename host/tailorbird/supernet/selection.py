"""Which indices of each group a configuration keeps, and how stored tensors are cut accordingly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tailorbird.graph import Atom, Block, Dim, Group
from tailorbird.types import Config

Cuts = tuple[tuple[int, Tensor], ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """A configuration in terms of the graph: kept indices (sorted, int64) of each cut atom, and skipped blocks."""

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


def select(
    config: Config, groups: Mapping[str, Group], blocks: Mapping[str, Block], orders: Mapping[str, Tensor]
) -> Selection:
    """The selection of a configuration: of each group the k most important indices, in their original order.

    Keep sets nest, and the full configuration is the identity: no channel is ever reordered.
    """
    kept = {groups[name].atom: orders[name][:size].sort().values for name, size in config.sizes}
    return Selection(kept, tuple(blocks[name] for name in config.skipped))


def cut(tensor: Tensor, cuts: Cuts) -> Tensor:
    """Cut a tensor; gradients of the result flow into it.

    Without gradients the result still claims to require them if the tensor does: torch.matmul takes another path, with
    another rounding, for weights that do.
    """
    result = tensor
    for axis, indices in cuts:
        result = result.index_select(axis, indices.to(tensor.device))
    if tensor.requires_grad and not result.requires_grad:
        result.requires_grad_()
    return result
