"""Scaled dot-product attention, fused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Atom, Dim, Dims, atom_dim, dim_size
from tailorbird.graph.registry import Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("scaled_dot_product_attention")
def attention(analysis: Analysis, node: Node) -> Dims:
    """y[.., h, s, e] from q[.., h, s, d], k[.., h, t, d], v[.., h, t, e]: the heads are elastic, or else d.

    The scale 1/sqrt(d) is written out, so that it stays that of the full size when d shrinks.
    """
    q, k, v = (analysis.dims(operand) for operand in node.args[:3])
    if not len(q) == len(k) == len(v) or len(q) < 3:
        raise UnknownError("query, key and value differ in rank")
    leading: list[Dim] = []
    for axis in range(len(q) - 2):
        sizes = {dim_size(dims[axis]) for dims in (q, k, v)} - {1}  # keys of a single head serve every query
        if len(sizes) > 1:
            if not node.kwargs.get("enable_gqa") or axis != len(q) - 3:
                raise UnknownError("heads differ in number")
            leading.append(_grouped(analysis, node, (q[axis], k[axis], v[axis])))
            continue
        wide = [dims[axis] for dims in (q, k, v) if dim_size(dims[axis]) != 1]
        for dim in wide[1:]:
            analysis.unify(wide[0], dim, node)
        leading.append(wide[0] if wide else UNIT)
    analysis.unify(q[-1], k[-1], node)
    analysis.unify(k[-2], v[-2], node)
    if node.kwargs.get("scale") is None:
        node.kwargs = {**node.kwargs, "scale": 1 / math.sqrt(dim_size(q[-1]))}
    analysis.score(node, q[-1], tuple(leading))
    mask = node.args[3]
    if mask is not None:
        scores = (*leading, q[-2], k[-2])
        for dim, score in zip(reversed(analysis.dims(mask)), reversed(scores), strict=False):
            if dim != UNIT and dim_size(dim) == dim_size(score):
                analysis.unify(dim, score, node)
    return (*leading, q[-2], v[-1])


def _grouped(analysis: Analysis, node: Node, heads: tuple[Dim, Dim, Dim]) -> Dim:
    """Grouped-query attention (Ainslie et al., 2023): query heads are [key heads][queries of each]."""
    query, key, value = heads
    analysis.unify(key, value, node)
    product = analysis.algebra.product([key, atom_dim(Atom(dim_size(query) // dim_size(key)))])
    if product is None:
        raise UnknownError("heads are no product of key heads and the queries of each")
    analysis.unify(query, product, node)
    return query


@macs("scaled_dot_product_attention")
def attention_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Scores (q k) and their product with the values."""
    query, key, value = node.args[:3]
    assert isinstance(query, Node)
    assert isinstance(key, Node)
    assert isinstance(value, Node)
    return math.prod(shape(query)) * shape(key)[-2] + math.prod(shape(node)) * shape(value)[-2]
