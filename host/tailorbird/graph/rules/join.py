"""Ops that join and cut axes: cat, stack, split, slice, constant padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import FIXED, UNIT, Atom, Dim, Dims, atom_dim, resolve
from tailorbird.graph.registry import Several, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("cat", "concat", "concatenate")
def cat(analysis: Analysis, node: Node) -> Dims:
    """The joined axis is the sum of the parts; all other axes agree."""
    parts: Any = node.args[0]
    rank = len(analysis.shape(node))
    axis: Any = node.args[1]
    axis %= rank
    parts = [part for part in parts if analysis.shape(part) != (0,)]
    every = [analysis.dims(part) for part in parts]
    for other in every[1:]:
        for position in range(rank):
            if position != axis:
                analysis.unify(every[0][position], other[position], node)
    filled = [dims for part, dims in zip(parts, every, strict=True) if analysis.shape(part)[axis]] or every[:1]
    joined: Dim = tuple(segment for dims in filled for segment in dims[axis])
    return tuple(joined if position == axis else every[0][position] for position in range(rank))


@rule("stack")
def stack(analysis: Analysis, node: Node) -> Dims:
    """A new fixed axis over parts that agree."""
    parts: Any = node.args[0]
    axis: Any = node.args[1]
    axis %= len(analysis.shape(node))
    first = analysis.dims(parts[0])
    for part in parts[1:]:
        for dim, other in zip(first, analysis.dims(part), strict=True):
            analysis.unify(dim, other, node)
    return (*first[:axis], analysis.constant(len(parts)), *first[axis:])


@rule("split_with_sizes")
def split(analysis: Analysis, node: Node) -> Several:
    """The parts of a cut axis; the sizes follow."""
    source, sizes, axis = node.args[:3]
    dims = analysis.dims(source)
    assert isinstance(sizes, Sequence)
    assert isinstance(axis, int)
    axis %= len(dims)
    parts = analysis.algebra.pieces(dims[axis], [int(size) for size in sizes])  # type: ignore[arg-type]
    if parts is None:
        raise UnknownError("the cut does not fall between whole factors of the axis")
    analysis.resize_list(node, 1, parts)
    return Several(tuple((*dims[:axis], part, *dims[axis + 1 :]) for part in parts))


@rule("getitem")
def getitem(analysis: Analysis, node: Node) -> Dims:
    """One result of an op with several."""
    index = node.args[1]
    assert isinstance(index, int)
    return analysis.result(node.args[0], index)


@rule("slice")
def cut(analysis: Analysis, node: Node) -> Dims:
    """A range of an axis; start and end follow. A step other than 1 needs a fixed axis."""
    axis: Any = node.args[1]
    dims = list(analysis.dims(node.args[0]))
    dims[axis] = _range(analysis, node, axis, 2, analysis.shape(node)[axis])
    return tuple(dims)


@rule("slice_scatter")
def write(analysis: Analysis, node: Node) -> Dims:
    """x[.., start:end, ..] = y; start and end follow."""
    axis: Any = node.args[2]
    part = list(analysis.dims(node.args[0]))
    part[axis] = _range(analysis, node, axis, 3, analysis.shape(node.args[1])[axis])
    for dim, written in zip(part, analysis.dims(node.args[1]), strict=True):
        analysis.unify(dim, written, node)
    return analysis.dims(node.args[0])


@rule("select_scatter")
def write_entry(analysis: Analysis, node: Node) -> Dims:
    """x[.., i, ..] = y: one entry of a fixed axis."""
    dims = analysis.dims(node.args[0])
    axis: Any = node.args[2]
    axis %= len(dims)
    _refuse_batch(analysis, dims[axis])
    analysis.pin(dims[axis], node, "entries are picked by position")
    for dim, written in zip((*dims[:axis], *dims[axis + 1 :]), analysis.dims(node.args[1]), strict=True):
        analysis.unify(dim, written, node)
    return dims


def _range(analysis: Analysis, node: Node, axis: int, at: int, kept: int) -> Dim:
    """The dim of entries start to end of an axis of the first operand; `at` is the position of the argument `start`."""
    start: Any = node.args[at]
    end: Any = node.args[at + 1]
    full, dim = analysis.shape(node.args[0])[axis], analysis.dims(node.args[0])[axis]
    first = min(max((start or 0) + (full if (start or 0) < 0 else 0), 0), full)
    if kept == full:  # the end of a full range is either far beyond or the size itself
        if end is not None and 0 <= end <= full:
            analysis.resize(node, at + 1, dim)
        return dim
    if kept == 0:  # empty it stays, whatever the axis keeps
        _refuse_batch(analysis, dim)
        return analysis.constant(0)
    if node.args[at + 2] != 1 or analysis.is_constant(dim):
        if not analysis.is_constant(dim):
            analysis.pin(dim, node, "strided indices are picked by position")
            _refuse_batch(analysis, dim)
        return atom_dim(Atom(kept, FIXED)) if kept != 1 else UNIT
    pieces = analysis.algebra.pieces(dim, [size for size in (first, kept, full - first - kept) if size])
    if pieces is None:
        raise UnknownError("the cut does not fall between whole factors of the axis")
    before: Dim = pieces[0] if first else ()
    chosen = pieces[1 if first else 0]
    if first:
        analysis.resize(node, at, before)
    analysis.resize(node, at + 1, before + chosen)
    return chosen


@rule("pad", "constant_pad_nd")
def pad(analysis: Analysis, node: Node) -> Dims:
    """Constant padding adds fixed segments at either end; any other mode needs a fixed axis."""
    source: Any = node.args[0]
    amounts: Any = node.args[1]
    constant = node.target.__name__.startswith("constant") or node.args[2] == "constant"  # type: ignore[union-attr]
    dims, shape = list(analysis.dims(source)), analysis.shape(node)
    for pair in range(len(amounts) // 2):
        before, after = amounts[2 * pair : 2 * pair + 2]
        axis = len(dims) - 1 - pair
        if before == after == 0:
            continue
        if analysis.is_constant(dims[axis]):
            dims[axis] = atom_dim(Atom(shape[axis], FIXED))
        elif constant and before >= 0 and after >= 0:
            dims[axis] = (*_fixed(before), *resolve(dims[axis]), *_fixed(after))
        else:
            _refuse_batch(analysis, dims[axis])
            analysis.pin(dims[axis], node, "padding copies entries by position")
            dims[axis] = atom_dim(Atom(shape[axis], FIXED))
    return tuple(dims)


def _fixed(size: int) -> Dim:
    return atom_dim(Atom(size, FIXED)) if size else ()


def _refuse_batch(analysis: Analysis, dim: Dim) -> None:
    if analysis.follows_batch(dim):
        raise UnknownError("entries are picked from the batch")
