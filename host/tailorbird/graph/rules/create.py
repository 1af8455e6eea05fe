"""Tensors made from sizes alone, and repetition: sizes that follow the batch are re-evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import Dim, Dims
from tailorbird.graph.regions import CONTEXTS
from tailorbird.graph.registry import Several, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


def _sized(analysis: Analysis, node: Node, position: int) -> Dims:
    dims = analysis.constants(node)
    analysis.resize_list(node, position, dims)
    return dims


@rule("zeros", "ones", "empty", "full", "rand", "randn")
def create(analysis: Analysis, node: Node) -> Dims:
    """The size is the first argument."""
    return _sized(analysis, node, 0)


@rule("new_zeros", "new_ones", "new_empty", "new_full")
def create_like(analysis: Analysis, node: Node) -> Dims:
    """The size is the second argument; the first lends only its dtype."""
    return _sized(analysis, node, 1)


@rule("arange")
def arange(analysis: Analysis, node: Node) -> Dims:
    """arange(end), arange(start, end) or arange(start, end, step); an end that follows the batch starts at 0."""
    dims = analysis.constants(node)
    if not analysis.is_constant(dims[0]):
        if len(node.args) > 1 and (node.args[0] != 0 or node.args[2:3] not in {(), (1,)}):
            raise UnknownError("a range over the batch that does not count from 0")
        analysis.resize(node, min(len(node.args) - 1, 1), dims[0])
    return dims


@rule(*CONTEXTS)
def context(_analysis: Analysis, _node: Node) -> Several:
    """No tensor at all: the border of an autocast region."""
    return Several(())


@rule("scalar_tensor")
def scalar(_analysis: Analysis, _node: Node) -> Dims:
    """A number."""
    return ()


@rule("repeat")
def repeat(analysis: Analysis, node: Node) -> Dims:
    """x.repeat(r0, r1, ...): each axis becomes [r][axis], row-major."""
    source: Any = node.args[0]
    times: Any = node.args[1]
    dims = analysis.dims(source)
    lead = len(times) - len(dims)
    counts = tuple(map(analysis.constant, times))
    found: list[Dim] = []
    for axis, count in enumerate(counts):
        product = analysis.algebra.product([count, dims[axis - lead]]) if axis >= lead else count
        if product is None:
            raise UnknownError("a concatenation is repeated")
        found.append(product)
    analysis.resize_list(node, 1, counts)
    return tuple(found)
