"""Scaled dot-product attention, fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dims, dim_size
from tailorbird.graph.registry import Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("scaled_dot_product_attention")
def attention(analysis: Analysis, node: Node) -> Dims:
    """y[.., h, s, e] from q[.., h, s, d], k[.., h, t, d], v[.., h, t, e]: the heads are elastic, or else d.

    The scale 1/sqrt(d) is written out, so that it stays that of the full size when d shrinks.
    """
    q, k, v = (analysis.dims(operand) for operand in node.args[:3])
    if node.kwargs.get("enable_gqa"):
        for dims in (q, k, v):
            analysis.pin(dims[-3], node, "query heads share key heads in fixed groups")
    if not len(q) == len(k) == len(v) or len(q) < 3:
        raise UnknownError("query, key and value differ in rank")
    for axis in range(len(q) - 2):
        if not dim_size(q[axis]) == dim_size(k[axis]) == dim_size(v[axis]):
            if not node.kwargs.get("enable_gqa"):
                raise UnknownError("heads are broadcast")
            continue
        analysis.unify(q[axis], k[axis], node)
        analysis.unify(k[axis], v[axis], node)
    analysis.unify(q[-1], k[-1], node)
    analysis.unify(k[-2], v[-2], node)
    if node.kwargs.get("scale") is None:
        node.kwargs = {**node.kwargs, "scale": 1 / math.sqrt(dim_size(q[-1]))}
    analysis.score(node, q[-1], q[:-2])
    mask = node.args[3]
    if mask is not None:
        scores = (*q[:-1], k[-2])
        for dim, score in zip(reversed(analysis.dims(mask)), reversed(scores), strict=False):
            if dim != UNIT and dim_size(dim) == dim_size(score):
                analysis.unify(dim, score, node)
    return (*q[:-1], v[-1])


@macs("scaled_dot_product_attention")
def attention_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Scores (q k) and their product with the values."""
    query, key, value = node.args[:3]
    assert isinstance(query, Node)
    assert isinstance(key, Node)
    assert isinstance(value, Node)
    return math.prod(shape(query)) * shape(key)[-2] + math.prod(shape(node)) * shape(value)[-2]
