"""Tensors made from sizes alone, and repetition: their sizes are re-evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims, dim_size
from tailorbird.graph.capture import op_name
from tailorbird.graph.regions import CONTEXTS
from tailorbird.graph.registry import Several, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("zeros", "ones", "full", "new_zeros", "new_ones", "new_full")
def uniform(analysis: Analysis, node: Node) -> Dims:
    """Equal entries: the axes follow whatever they meet. The first operand of `new_*` lends only its dtype."""
    dims = tuple(map(analysis.free, analysis.shape(node)))
    analysis.resize_list(node, 1 if op_name(node).startswith("new_") else 0, dims)
    return dims


@rule("empty", "rand", "randn", "new_empty")
def create(analysis: Analysis, node: Node) -> Dims:
    """Entries of their own: only the batch may change the size."""
    dims = analysis.constants(node)
    analysis.resize_list(node, 1 if op_name(node).startswith("new_") else 0, dims)
    return dims


@rule("arange")
def arange(analysis: Analysis, node: Node) -> Dims:
    """arange(end), arange(start, end) or arange(start, end, step); an end that follows the batch starts at 0."""
    dims = analysis.constants(node)
    if not analysis.is_constant(dims[0]):
        at = min(len(node.args) - 1, 1)
        arguments: Any = node.args
        end: Any = arguments[at]
        step: Any = arguments[2] if len(arguments) > 2 else 1
        if (type(end), type(step)) != (int, int) or end != step * dim_size(dims[0]) or (at and arguments[0] != 0):
            raise UnknownError("a range over the batch that does not count from 0")
        analysis.resize(node, at, analysis.constant(end))
    return dims


@rule(*CONTEXTS)
def context(_analysis: Analysis, _node: Node) -> Several:
    """No tensor at all: the border of an autocast region."""
    return Several(())


@rule("linspace", "eye", "tril_indices", "triu_indices", "hann_window")
def table(analysis: Analysis, node: Node) -> Dims:
    """Entries that depend on their position."""
    dims = analysis.constants(node)
    if not all(map(analysis.is_constant, dims)):
        raise UnknownError("a table over the batch")
    return dims


@rule("meshgrid")
def meshgrid(analysis: Analysis, node: Node) -> Several:
    """Every axis of the grid is one of the vectors."""
    vectors: Any = node.args[0]
    dims = [(analysis.dims(vector) or (UNIT,))[0] for vector in vectors]
    if "xy" in (*node.args[1:], *node.kwargs.values()):
        dims[:2] = dims[1::-1]
    return Several((tuple(dims),) * len(dims))


@rule("scalar_tensor")
def scalar(_analysis: Analysis, _node: Node) -> Dims:
    """A number."""
    return ()


@rule("repeat", "tile")
def repeat(analysis: Analysis, node: Node) -> Dims:
    """x.repeat(r0, r1, ...): each axis becomes [r][axis], row-major."""
    source: Any = node.args[0]
    times: Any = node.args[1]
    dims = analysis.dims(source)
    times = [1] * (len(dims) - len(times)) + list(times)
    node.args = (source, times)
    lead = len(times) - len(dims)
    counts = tuple(map(analysis.free, times))
    found: list[Dim] = []
    for axis, count in enumerate(counts):
        product = analysis.algebra.product([count, dims[axis - lead]]) if axis >= lead else count
        if product is None:
            raise UnknownError("a concatenation is repeated")
        found.append(product)
    analysis.resize_list(node, 1, counts)
    return tuple(found)


@rule("repeat_interleave")
def repeat_interleave(analysis: Analysis, node: Node) -> Dims:
    """x.repeat_interleave(n, axis): the axis becomes [axis][n]."""
    source, times, axis = node.args[:3]
    if not isinstance(times, int) or not isinstance(axis, int):
        raise UnknownError("how often entries repeat depends on the data, or the tensor is flattened")
    dims = list(analysis.dims(source))
    axis %= len(dims)
    count = analysis.free(times)
    if analysis.follows_batch(count):
        raise UnknownError("entries repeat once for each sample")
    analysis.resize(node, 1, count)
    product = analysis.algebra.product([dims[axis], count])
    assert product is not None
    dims[axis] = product
    if node.kwargs.get("output_size") is not None:
        node.kwargs = {name: value for name, value in node.kwargs.items() if name != "output_size"}
    return tuple(dims)
