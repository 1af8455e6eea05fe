"""Ops that only rename axes: reshape, permute, expand, select, squeeze."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims, Pin, dim_size
from tailorbird.graph.registry import Several, Shape, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("view", "reshape", "_unsafe_view")
def reshape(analysis: Analysis, node: Node) -> Dims:
    """Axes merge into products and split into factors; the target sizes follow."""
    dims = regroup(analysis, node)
    analysis.resize_list(node, 1, dims)
    return dims


@rule("reshape_as", "view_as")
def reshape_like(analysis: Analysis, node: Node) -> Dims:
    """As a reshape to the shape of another tensor, whose axes the result must keep to."""
    found = regroup(analysis, node)
    for dim, other in zip(found, analysis.dims(node.args[1]), strict=True):
        analysis.unify(dim, other, node)
    return found


@rule("flatten", "squeeze", "unsqueeze")
def merge(analysis: Analysis, node: Node) -> Dims:
    """As a reshape whose arguments name axes, not sizes."""
    return regroup(analysis, node)


@rule("unflatten")
def unflatten(analysis: Analysis, node: Node) -> Dims:
    """As a reshape; the sizes of the new axes follow."""
    dims = regroup(analysis, node)
    axis, sizes = node.args[1:3]
    assert isinstance(axis, int)
    assert isinstance(sizes, Sequence)
    axis %= len(analysis.shape(node.args[0]))
    analysis.resize_list(node, 2, dims[axis : axis + len(sizes)])
    return dims


def regroup(analysis: Analysis, node: Node) -> Dims:
    """Dims after a row-major reshape from the shape of the first operand to the shape of `node`."""
    source: Any = node.args[0]
    dims, old, new = analysis.dims(source), analysis.shape(source), analysis.shape(node)
    if 0 in old:
        return analysis.constants(node)
    found: list[Dim] = [UNIT] * len(new)
    for axes, targets in _blocks(old, new):
        merged = [dims[axis] for axis in axes]
        sizes = [new[target] for target in targets]
        if len(axes) == len(targets) == 1:
            parts: list[Dim] | None = merged
        else:
            product = analysis.algebra.product(merged)
            why = Pin(node.name, "axes of different make-up meet here")
            parts = None if product is None else analysis.algebra.factor(product, sizes, why)
        if parts is None:
            why = Pin(str(node.target), "the reshape cuts across these axes")
            analysis.algebra.conflict(why, *merged)
            parts = [analysis.constant(size) for size in sizes]
        for target, part in zip(targets, parts, strict=True):
            found[target] = part
    return tuple(found)


def _blocks(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Pair the fewest consecutive axes of two shapes whose products agree; axes of size 1 are left out."""
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    blocks = []
    while left:
        axes, targets = [left.pop(0)], [right.pop(0)]
        mine, other = old[axes[0]], new[targets[0]]
        while mine != other:
            if mine < other:
                axes.append(left.pop(0))
                mine *= old[axes[-1]]
            else:
                targets.append(right.pop(0))
                other *= new[targets[-1]]
        blocks.append((axes, targets))
    return blocks


@rule("permute")
def permute(analysis: Analysis, node: Node) -> Dims:
    """Axes in another order."""
    dims = analysis.dims(node.args[0])
    order: Any = node.args[1]
    return tuple(dims[axis] for axis in order)


@rule("transpose", "swapaxes")
def transpose(analysis: Analysis, node: Node) -> Dims:
    """Two axes change places."""
    dims = list(analysis.dims(node.args[0]))
    first, second = node.args[1:3]
    assert isinstance(first, int)
    assert isinstance(second, int)
    dims[first], dims[second] = dims[second], dims[first]
    return tuple(dims)


@rule("t", "numpy_T", "mT")
def matrix_transpose(analysis: Analysis, node: Node) -> Dims:
    """The axes of a matrix (or vector) reversed."""
    dims = analysis.dims(node.args[0])
    if len(dims) > 2:
        raise UnknownError("a transpose of more than two axes")
    return dims[::-1]


@rule("expand")
def expand(analysis: Analysis, node: Node) -> Dims:
    """Axes of size 1 grow to any number of equal entries (or to the batch); all others stay."""
    source: Any = node.args[0]
    dims, old, new = analysis.dims(source), analysis.shape(source), analysis.shape(node)
    offset = len(new) - len(old)
    found = tuple(
        dims[axis - offset] if axis >= offset and old[axis - offset] == size else analysis.free(size)
        for axis, size in enumerate(new)
    )
    analysis.resize_list(node, 1, found)
    return found


@rule("select")
def select(analysis: Analysis, node: Node) -> Dims:
    """One entry of a fixed axis."""
    dims = analysis.dims(node.args[0])
    axis = node.args[1]
    assert isinstance(axis, int)
    axis %= len(dims)
    _no_batch(analysis, dims[axis])
    analysis.pin(dims[axis], node, "entries are picked by position")
    return (*dims[:axis], *dims[axis + 1 :])


@rule("unbind")
def unbind(analysis: Analysis, node: Node) -> Several:
    """All entries of a fixed axis."""
    dims = analysis.dims(node.args[0])
    axis = node.args[1]
    assert isinstance(axis, int)
    axis %= len(dims)
    _no_batch(analysis, dims[axis])
    analysis.pin(dims[axis], node, "entries are picked by position")
    return Several((((*dims[:axis], *dims[axis + 1 :])),) * dim_size(dims[axis]))


def _no_batch(analysis: Analysis, dim: Dim) -> None:
    if analysis.follows_batch(dim):
        raise UnknownError("entries are picked from the batch")
