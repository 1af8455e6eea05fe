"""Convolutions: any rank, any groups (depthwise and channel multipliers included)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import Atom, Dim, Dims, atom_dim
from tailorbird.graph.registry import Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_GROUPS = 6  # position of the argument


@rule("conv1d", "conv2d", "conv3d")
def convolution(analysis: Analysis, node: Node) -> Dims:
    """x.C ~ [groups][in/groups], w.0 ~ [groups][out/groups], w.1 ~ [in/groups]; the kernel and the image are fixed."""
    data, weight, bias = node.args[:3]
    groups: Any = node.args[_GROUPS]
    x, w = analysis.dims(data), analysis.dims(weight)
    if len(x) != len(w):
        raise UnknownError("an unbatched convolution")
    out, inner = analysis.shape(weight)[:2]
    for dim in (*w[2:], *x[2:]):
        analysis.fix(dim)
    if groups == 1:
        analysis.unify(x[1], w[1], node)
    else:
        group, each_in, each_out = Atom(groups), Atom(inner), Atom(out // groups)
        analysis.unify(w[1], atom_dim(each_in), node)
        analysis.unify(x[1], ((group, each_in),), node)
        analysis.unify(w[0], ((group, each_out),), node)
        analysis.resize(node, _GROUPS, atom_dim(group))
    if bias is not None:
        analysis.unify(w[0], analysis.dims(bias)[0], node)
    return (x[0], w[0], *analysis.constants(node)[2:])


_TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


@rule(*_TRANSPOSED)
def transposed_convolution(analysis: Analysis, node: Node) -> Dims:
    """x.C ~ w.0 ~ [groups][in/groups], w.1 ~ [out/groups], y.C ~ [groups][out/groups]."""
    data, weight, bias = node.args[:3]
    groups: Any = node.args[_GROUPS]
    x, w = analysis.dims(data), analysis.dims(weight)
    if len(x) != len(w):
        raise UnknownError("an unbatched convolution")
    inner, out = analysis.shape(weight)[:2]
    for dim in (*w[2:], *x[2:]):
        analysis.fix(dim)
    channels: Dim = w[1]
    if groups == 1:
        analysis.unify(x[1], w[0], node)
    else:
        group, each_in, each_out = Atom(groups), Atom(inner // groups), Atom(out)
        analysis.unify(w[1], atom_dim(each_out), node)
        analysis.unify(w[0], ((group, each_in),), node)
        analysis.unify(x[1], w[0], node)
        analysis.resize(node, _GROUPS, atom_dim(group))
        channels = ((group, each_out),)
    if bias is not None:
        analysis.unify(channels, analysis.dims(bias)[0], node)
    return (x[0], channels, *analysis.constants(node)[2:])


@macs(*_TRANSPOSED)
def transposed_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Each input element takes one product for each weight of its filter."""
    data, weight = node.args[:2]
    assert isinstance(data, Node)
    assert isinstance(weight, Node)
    return math.prod(shape(data)) * math.prod(shape(weight)[1:])


@macs("conv1d", "conv2d", "conv3d")
def convolution_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """Each output element takes one product for each weight of its filter."""
    weight = node.args[1]
    assert isinstance(weight, Node)
    return math.prod(shape(node)) * math.prod(shape(weight)[1:])
