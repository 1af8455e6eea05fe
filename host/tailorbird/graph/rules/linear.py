"""Matrix products: contracted axes keep the same indices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims, dim_size
from tailorbird.graph.registry import Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("linear")
def linear(analysis: Analysis, node: Node) -> Dims:
    """y[..., out] = x[..., in] w[out, in] + b[out]."""
    data, weight, bias = node.args[:3]
    x, w = analysis.dims(data), analysis.dims(weight)
    if len(w) != 2:
        raise UnknownError("the weight is no matrix")
    analysis.unify(x[-1], w[1], node)
    if bias is not None:
        analysis.unify(w[0], analysis.dims(bias)[0], node)
    return (*x[:-1], w[0])


@rule("baddbmm")
def baddbmm(analysis: Analysis, node: Node) -> Dims:
    """y[b, m, n] = c[b, m, n] + x[b, m, k] w[b, k, n], where c may be broadcast."""
    added, left, right = node.args[:3]
    x, w = analysis.dims(left), analysis.dims(right)
    analysis.unify(x[-1], w[-2], node)
    analysis.unify(x[0], w[0], node)
    analysis.score(node, x[-1], x[:1])
    found = (x[0], x[1], w[2])
    for dim, out in zip(reversed(analysis.dims(added)), reversed(found), strict=False):
        if dim_size(dim) == dim_size(out):
            analysis.unify(dim, out, node)
    return found


@rule("addmm")
def addmm(analysis: Analysis, node: Node) -> Dims:
    """y[m, n] = b[m, n] or b[n] + x[m, k] w[k, n]."""
    bias, left, right = node.args[:3]
    x, w = analysis.dims(left), analysis.dims(right)
    analysis.unify(x[1], w[0], node)
    added, shape = analysis.dims(bias), analysis.shape(node)
    for dim, size, out, full in zip(
        reversed(added), reversed(analysis.shape(bias)), (w[1], x[0]), reversed(shape), strict=False
    ):
        if size == full:
            analysis.unify(dim, out, node)
    return (x[0], w[1])


@rule("matmul", "mm", "bmm")
def matmul(analysis: Analysis, node: Node) -> Dims:
    """y[..., m, n] = a[..., m, k] b[..., k, n]. The product of two activations counts as a score (`Analysis.score`)."""
    a, b = analysis.dims(node.args[0]), analysis.dims(node.args[1])
    if len(a) < 2 or len(b) < 2:
        return vector_product(analysis, node)
    analysis.unify(a[-1], b[-2], node)
    batch = _batch_axes(analysis, node, a[:-2], b[:-2])
    if len(b) > 2:
        analysis.score(node, a[-1], batch)
    return (*batch, a[-2], b[-1])


@rule("mv", "dot", "vdot")
def vector_product(analysis: Analysis, node: Node) -> Dims:
    """y[..., m] = a[..., m, k] b[k], or y[..., n] = a[k] b[..., k, n], or a number."""
    a, b = analysis.dims(node.args[0]), analysis.dims(node.args[1])
    analysis.unify(a[-1], b[-2:][0], node)
    return (*a[:-1], *b[:-2], *b[-1:]) if len(b) > 1 else a[:-1]


@rule("outer", "ger")
def outer(analysis: Analysis, node: Node) -> Dims:
    """y[m, n] = a[m] b[n]."""
    return (analysis.dims(node.args[0])[0], analysis.dims(node.args[1])[0])


def _batch_axes(analysis: Analysis, node: Node, left: Dims, right: Dims) -> Dims:
    shape = analysis.shape(node)[:-2]
    found: list[Dim] = []
    for axis, size in enumerate(shape):
        mine = left[axis - len(shape) + len(left)] if axis >= len(shape) - len(left) else UNIT
        other = right[axis - len(shape) + len(right)] if axis >= len(shape) - len(right) else UNIT
        wide = [dim for dim in (mine, other) if dim != UNIT and dim_size(dim) == size]
        if len(wide) == 2:
            analysis.unify(wide[0], wide[1], node)
        found.append(wide[0] if wide else UNIT)
    return tuple(found)


@macs("linear")
def linear_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Output elements times input features."""
    assert isinstance(node.args[0], Node)
    return math.prod(shape(node)) * shape(node.args[0])[-1]


@macs("addmm", "baddbmm")
def addmm_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Output elements times the contracted size."""
    assert isinstance(node.args[1], Node)
    return math.prod(shape(node)) * shape(node.args[1])[-1]


@macs("matmul", "mm", "bmm")
def matmul_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Output elements times the contracted size."""
    assert isinstance(node.args[0], Node)
    return math.prod(shape(node)) * shape(node.args[0])[-1]
