"""Ops that pick or move entries by position: index, gather, roll, flip, cumulative sums, unfolding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims, dim_size, resolve, segment_size
from tailorbird.graph.capture import op_name
from tailorbird.graph.registry import Several, UnknownError, rule
from tailorbird.graph.rules.elementwise import broadcast_dims

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_WHY = "entries are picked by position"


def pin_positions(analysis: Analysis, node: Node, dim: Dim, reason: str = _WHY) -> None:
    """An axis whose order matters keeps all its entries; the batch must not be such an axis."""
    if analysis.follows_batch(dim):
        raise UnknownError("entries are picked from the batch")
    analysis.pin(dim, node, reason)


@rule("index", "_unsafe_index")
def index(analysis: Analysis, node: Node) -> Dims:
    """x[:, i, j]: indexed axes are fixed as far as the indices reach; the axes of i and j take the place of the first.

    They lead when indexed axes are not adjacent, as in NumPy.
    """
    source, indices = node.args[:2]
    dims = analysis.dims(source)
    assert isinstance(indices, list | tuple)
    at = [axis for axis, found in enumerate(indices) if found is not None]
    tensors: list[Any] = [indices[axis] for axis in at]
    if any(tensor.meta["val"].dtype is torch.bool for tensor in tensors if "val" in tensor.meta):
        raise UnknownError("how many entries a mask picks depends on the data")
    for axis, tensor in zip(at, tensors, strict=True):
        if not _counts_batch(analysis, tensor, dims[axis]):
            pin_positions(analysis, node, _reach(analysis, tensor, dims[axis]))
    adjacent = at == list(range(at[0], at[-1] + 1))
    first = at[0] if adjacent else 0
    rest = [dim for axis, dim in enumerate(dims) if axis not in at]
    width = len(analysis.shape(node)) - len(rest)
    shape = analysis.shape(node)[first : first + width]
    return (*rest[:first], *broadcast_dims(analysis, node, tensors, shape), *rest[first:])


def _reach(analysis: Analysis, tensor: Node, dim: Dim) -> Dim:
    """The part of an axis that constant positions count through: from its start, or from its end if all are negative.

    Multi-query attention picks the one key head from the end; the query heads before it stay free. Only existing
    borders count: an axis is not cut for an index alone.
    """
    if tensor.op != "get_attr" or str(tensor.target) not in analysis.capture.constants:
        return dim
    positions = analysis.capture.tensors[str(tensor.target)].flatten().tolist()
    segments = resolve(dim)
    if positions and max(positions) < 0:
        segments, furthest = segments[::-1], -min(positions)
    elif positions and min(positions) >= 0:
        furthest = max(positions) + 1
    else:
        return dim
    taken = 0
    for count, segment in enumerate(segments, start=1):
        taken += segment_size(segment)
        if taken >= furthest:
            return segments[:count]
    return dim


def _counts_batch(analysis: Analysis, tensor: Node, dim: Dim) -> bool:
    """Whether `x[arange(batch), ...]` walks along the batch."""
    while op_name(tensor) in {"unsqueeze", "view", "reshape", "to", "_to_copy"} and isinstance(tensor.args[0], Node):
        tensor = tensor.args[0]
    return op_name(tensor) == "arange" and analysis.follows_batch(dim) and analysis.same(analysis.dims(tensor)[0], dim)


@rule("index_select")
def index_select(analysis: Analysis, node: Node) -> Dims:
    """The indexed axis is fixed and becomes the axis of the index."""
    source, axis, picked = node.args[:3]
    assert isinstance(axis, int)
    dims = list(analysis.dims(source))
    pin_positions(analysis, node, dims[axis])
    dims[axis] = (analysis.dims(picked) or (UNIT,))[0]
    return tuple(dims)


@rule("gather", "take_along_dim")
def gather(analysis: Analysis, node: Node) -> Dims:
    """The gathered axis is fixed; all others keep the indices of the index tensor, from 0."""
    source, axis, picked = node.args[:3] if op_name(node) == "gather" else (node.args[0], node.args[2], node.args[1])
    if not isinstance(axis, int):
        raise UnknownError("the tensor is flattened")
    dims, found = analysis.dims(source), analysis.dims(picked)
    axis %= len(dims)
    for position, (dim, wanted) in enumerate(zip(dims, found, strict=True)):
        if position == axis:
            pin_positions(analysis, node, dim)
        elif dim_size(dim) == dim_size(wanted):
            analysis.unify(dim, wanted, node)
        else:  # entry i of the index belongs to entry i of the tensor, which has more of them
            pin_positions(analysis, node, dim)
            pin_positions(analysis, node, wanted)
    return found


@rule("roll", "flip")
def shift(analysis: Analysis, node: Node) -> Dims:
    """The axes that move keep all their entries."""
    dims = analysis.dims(node.args[0])
    axes: Any = node.args[2] if op_name(node) == "roll" else node.args[1]
    for axis in axes or range(len(dims)):
        pin_positions(analysis, node, dims[axis])
    return dims


@rule("cumsum", "cumprod", "logcumsumexp")
def cumulate(analysis: Analysis, node: Node) -> Dims:
    """Each entry depends on those before it."""
    dims = analysis.dims(node.args[0])
    axis = node.args[1]
    assert isinstance(axis, int)
    if dims:
        pin_positions(analysis, node, dims[axis], "each entry sums up those before it")
    return dims


@rule("cummax", "cummin", "sort", "topk", "kthvalue", "mode")
def order(analysis: Analysis, node: Node) -> Several:
    """Values and positions along a fixed axis."""
    dims = analysis.dims(node.args[0])
    at = {"topk": 2, "kthvalue": 2}.get(op_name(node), 1)
    axis: Any = node.args[at]
    axis %= max(1, len(dims))
    if dims:
        pin_positions(analysis, node, dims[axis])
    shape = node.meta["val"][0].shape
    if len(shape) == len(dims):
        found = tuple(analysis.constant(int(shape[axis])) if at == axis else dim for at, dim in enumerate(dims))
    else:
        found = (*dims[:axis], *dims[axis + 1 :])
    return Several((found, found))


@rule("argsort")
def argsort(analysis: Analysis, node: Node) -> Dims:
    """Positions along a fixed axis."""
    dims = analysis.dims(node.args[0])
    axis = next(argument for argument in node.args[1:] if type(argument) is int)
    pin_positions(analysis, node, dims[axis])
    return dims


@rule("unfold")
def unfold(analysis: Analysis, node: Node) -> Dims:
    """x.unfold(axis, size, step): windows over a fixed axis; their content is a new last axis."""
    source, axis = node.args[:2]
    assert isinstance(axis, int)
    dims = list(analysis.dims(source))
    pin_positions(analysis, node, dims[axis], "windows are cut by position")
    shape = analysis.shape(node)
    dims[axis] = analysis.constant(shape[axis % len(dims)])
    return (*dims, analysis.constant(shape[-1]))


@rule("im2col")
def im2col(analysis: Analysis, node: Node) -> Dims:
    """(N, C, H, W) to (N, C * kh * kw, windows): channels are the outer factor."""
    dims = analysis.dims(node.args[0])
    if len(dims) != 4:
        raise UnknownError("an unbatched image")
    for dim in dims[2:]:
        analysis.fix(dim)
    shape = analysis.shape(node)
    each = analysis.constant(shape[1] // dim_size(dims[1]))
    channels = analysis.algebra.product([dims[1], each])
    assert channels is not None
    return (dims[0], channels, analysis.constant(shape[2]))


@rule("col2im")
def col2im(analysis: Analysis, node: Node) -> Dims:
    """(N, C * kh * kw, windows) back to (N, C, H, W)."""
    dims, shape = analysis.dims(node.args[0]), analysis.shape(node)
    if len(dims) != 3:
        raise UnknownError("an unbatched image")
    analysis.fix(dims[2])
    parts = analysis.factor(dims[1], (shape[1], dim_size(dims[1]) // shape[1]), node)
    analysis.fix(parts[1])
    return (dims[0], parts[0], *map(analysis.constant, shape[2:]))
