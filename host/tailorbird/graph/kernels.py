"""Elastic kernels: convolutions whose kernel can shrink around its centre without moving anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.fx import Graph, Node

from tailorbird.graph.algebra import Atom, Dims, iter_atoms
from tailorbird.graph.blocks import unique
from tailorbird.graph.capture import op_name

_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
PADDING = 4  # position of the argument; the dilation follows it
_SMALLEST = 3
_FINE = 11  # kernels up to this size offer every odd size


@dataclass(frozen=True, slots=True)
class Kernel:
    """A convolution whose weight may be cut to its centre.

    full: (kH, kW), one entry for each spatial axis, all odd; atoms: of these axes, None for an axis of one entry;
    padding: of each axis, None for "same", which needs no change; smallest: the least size the padding allows.

    A kernel of size k keeps min(k, full) entries of every axis and pads (full - k) / 2 * dilation less on either side,
    so that every output stays over the same input.
    """

    name: str
    node: Node
    weight: str
    full: tuple[int, ...]
    atoms: tuple[Atom | None, ...]
    padding: tuple[int, ...] | None
    dilation: tuple[int, ...]
    smallest: int

    @property
    def size(self) -> int:
        """The full size: the longest axis."""
        return max(self.full)

    @property
    def choices(self) -> tuple[int, ...]:
        """Sizes offered unless the user names others: every odd one, of a long kernel those nearest its quarters."""
        if self.size <= _FINE:
            return tuple(range(self.smallest, self.size + 1, 2))
        quarters = {self.size * quarter // 8 * 2 + 1 for quarter in (1, 2, 3)}
        return (*sorted(size for size in quarters if self.smallest <= size < self.size), self.size)

    def shape(self, size: int) -> tuple[int, ...]:
        """Kernel shape of a size."""
        return tuple(min(size, full) for full in self.full)

    def axes(self, size: int) -> Iterator[tuple[Atom, int, int]]:
        """(atom, full entries, kept entries) of every axis that shrinks."""
        for atom, full, kept in zip(self.atoms, self.full, self.shape(size), strict=True):
            if atom is not None and kept < full:
                yield atom, full, kept

    def padding_at(self, sizes: Mapping[Atom, int]) -> list[int] | None:
        """The padding argument when the atoms in `sizes` are cut down; None when it stays."""
        if self.padding is None or not any(atom in sizes for atom in self.atoms if atom is not None):
            return None
        return [
            padding - dilation * (full - (full if atom is None else sizes.get(atom, full))) // 2
            for padding, dilation, full, atom in zip(self.padding, self.dilation, self.full, self.atoms, strict=True)
        ]


def find_kernels(
    graph: Graph, stored: Mapping[str, Dims], tensors: Mapping[str, Tensor], parameters: frozenset[str]
) -> tuple[Kernel, ...]:
    """All elastic kernels in graph order, named `module:kernel` after the user's modules.

    A weight that is shared, or that ops compute, keeps its kernel: nothing says that all its users would follow.
    """
    readers = Counter(
        _memory(tensors[str(node.target)]) for node in graph.nodes if node.op == "get_attr" for _ in node.users
    )
    found = []
    for node in graph.nodes:
        if node.op != "call_function" or op_name(node) not in _CONVOLUTIONS:
            continue
        weight = node.args[1]
        name = str(weight.target)
        if weight.op == "get_attr" and name in parameters and readers[_memory(tensors[name])] == 1:
            kernel = _kernel(node, name, tensors[name], stored[name])
            if kernel is not None:
                found.append(kernel)
    owners = [kernel.weight.rpartition(".")[0] or kernel.weight for kernel in found]
    names = unique(f"{owner}:kernel" for owner in owners)
    return tuple(replace(kernel, name=name) for kernel, name in zip(found, names, strict=True))


def _kernel(node: Node, name: str, weight: Tensor, dims: Dims) -> Kernel | None:
    full = tuple(weight.shape[2:])
    data: Any = node.args[0]
    image = data.meta.get("val")
    if image is None or image.ndim != weight.ndim or any(size % 2 == 0 for size in full):
        return None  # a filter over stored data is a constant of the model
    given: Any = node.args[PADDING]
    dilation = _each(node.args[PADDING + 1], len(full))
    padding = None if given == "same" else (0,) * len(full) if given == "valid" else _each(given, len(full))
    smallest = _SMALLEST
    if padding is not None:
        smallest = max(_SMALLEST, *(_least(*axis) for axis in zip(full, padding, dilation, strict=True)))
    if smallest >= max(full):
        return None
    atoms = tuple(next(iter_atoms(dim), None) for dim in dims[2:])
    return Kernel("", node, name, full, atoms, padding, dilation, smallest)


def _least(full: int, padding: int, dilation: int) -> int:
    """The smallest odd kernel that needs no negative padding."""
    return full - 2 * (padding // dilation)


def _each(argument: Any, rank: int) -> tuple[int, ...]:
    values = tuple(argument) if isinstance(argument, list | tuple) else (argument,)
    return values * rank if len(values) == 1 else values


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() or id(tensor)
