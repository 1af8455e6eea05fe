"""Ops that work on each element alone, with broadcasting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims
from tailorbird.graph.registry import Shape, UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_UNARY = """
    relu relu6 gelu silu mish elu selu celu leaky_relu hardtanh hardswish hardsigmoid sigmoid tanh softplus softsign
    logsigmoid log_sigmoid neg abs exp expm1 log log1p log2 sqrt rsqrt square reciprocal sin cos tan erf sign floor ceil
    round trunc clamp clamp_min clamp_max pow dropout feature_dropout alpha_dropout clone contiguous to _to_copy
    detach lift_fresh_copy nan_to_num logical_not bitwise_not isnan isinf threshold hardshrink softshrink
    zeros_like ones_like full_like fill zero
"""
_BINARY = """
    add sub mul div true_divide floor_divide rsub maximum minimum fmod remainder atan2 prelu_kernel where masked_fill
    eq ne gt lt ge le logical_and logical_or logical_xor bitwise_and bitwise_or __and__ __or__ addcmul addcdiv lerp
"""


@rule(*_UNARY.split(), *_BINARY.split())
def elementwise(analysis: Analysis, node: Node) -> Dims:
    """All operands keep the same indices on axes that are not broadcast."""
    return broadcast(analysis, node, [operand for operand in node.all_input_nodes if analysis.is_tensor(operand)])


def broadcast(analysis: Analysis, node: Node, operands: list[Node]) -> Dims:
    """Dims of the broadcast of `operands` to the shape of `node`."""
    return broadcast_dims(analysis, node, operands, analysis.shape(node))


def broadcast_dims(analysis: Analysis, node: Node, operands: list[Node], shape: Shape) -> Dims:
    """Dims of the broadcast of `operands` to `shape`, on behalf of `node`."""
    found: list[Dim | None] = [None] * len(shape)
    for operand in operands:
        dims, sizes = analysis.dims(operand), analysis.shape(operand)
        offset = len(shape) - len(sizes)
        if offset < 0:
            raise UnknownError("an operand has more axes than the result")
        for axis, (dim, size) in enumerate(zip(dims, sizes, strict=True), start=offset):
            if size != shape[axis]:
                continue
            known = found[axis]
            if known is None:
                found[axis] = dim
            else:
                analysis.unify(known, dim, node)
    return tuple(dim if dim is not None else UNIT for dim in found)


@rule("type_as")
def type_as(analysis: Analysis, node: Node) -> Dims:
    """The second operand lends only its dtype."""
    return analysis.dims(node.args[0])


@rule("glu")
def glu(analysis: Analysis, node: Node) -> Dims:
    """a sigmoid(b) of the halves a, b of an axis: both keep the same indices."""
    dims, axis = list(analysis.dims(node.args[0])), node.args[1]
    assert isinstance(axis, int)
    half = analysis.shape(node)[axis]
    parts = analysis.algebra.pieces(dims[axis], [half, half])
    if parts is None:
        raise UnknownError("the halves do not fall between whole factors of the axis")
    analysis.unify(parts[0], parts[1], node)
    dims[axis] = parts[0]
    return tuple(dims)


@rule("tril", "triu")
def triangle(analysis: Analysis, node: Node) -> Dims:
    """Entries on one side of the diagonal; both axes of the matrix are fixed."""
    dims = analysis.dims(node.args[0])
    for dim in dims[-2:]:
        if analysis.follows_batch(dim):
            raise UnknownError("a triangle over the batch")
        analysis.pin(dim, node, "entries are picked by position")
    return dims


@rule("expand_as")
def expand_as(analysis: Analysis, node: Node) -> Dims:
    """Axes follow another tensor."""
    return broadcast(analysis, node, list(node.all_input_nodes))


@rule("copy")
def copied(analysis: Analysis, node: Node) -> Dims:
    """x.copy_(y): what x holds, y broadcast to it."""
    return broadcast(analysis, node, list(node.all_input_nodes))


@rule("prelu")
def prelu(analysis: Analysis, node: Node) -> Dims:
    """One slope for each channel (or one for all)."""
    data, slope = node.args[:2]
    if analysis.shape(slope)[0] != 1:
        analysis.unify(analysis.dims(data)[1], analysis.dims(slope)[0], node)
    return analysis.dims(data)


@rule("softmax", "_softmax", "log_softmax", "_log_softmax")
def softmax(analysis: Analysis, node: Node) -> Dims:
    """The normalised axis keeps its size: a softmax over fewer entries is another function."""
    dims = analysis.dims(node.args[0])
    axis = node.args[1]
    assert isinstance(axis, int)
    analysis.pin(dims[axis], node, "the softmax runs over this axis")
    return dims
