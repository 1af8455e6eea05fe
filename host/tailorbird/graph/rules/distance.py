"""Distances and similarities of vectors: the compared axis vanishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dims
from tailorbird.graph.registry import rule
from tailorbird.graph.rules.elementwise import broadcast_dims

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("cdist")
def cdist(analysis: Analysis, node: Node) -> Dims:
    """d[..., i, j] of x[..., i, k] and y[..., j, k]."""
    x, y = (analysis.dims(operand) for operand in node.args[:2])
    analysis.unify(x[-1], y[-1], node)
    for mine, other in zip(x[:-2], y[:-2], strict=True):
        analysis.unify(mine, other, node)
    return (*x[:-1], y[-2])


@rule("cosine_similarity", "pairwise_distance")
def similarity(analysis: Analysis, node: Node) -> Dims:
    """Both operands, broadcast to each other, are compared along one axis."""
    operands = list(node.all_input_nodes)
    shapes = [analysis.shape(operand) for operand in operands]
    rank = max(map(len, shapes))
    full = tuple(max(shape[axis] for shape in shapes if len(shape) >= -axis) for axis in range(-rank, 0))
    dims = broadcast_dims(analysis, node, operands, full)
    keep = len(analysis.shape(node)) == rank
    named: Any = node.args[2] if str(node.target).startswith("aten.cosine") else -1
    axis = named % rank
    return (*dims[:axis], *((UNIT,) if keep else ()), *dims[axis + 1 :])
