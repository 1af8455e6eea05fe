"""Normalisation layers: their affine parameters and statistics follow the channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import FIXED, Atom, Dims
from tailorbird.graph.registry import UnknownError, rule
from tailorbird.graph.rules.elementwise import broadcast

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


def _per_channel(analysis: Analysis, node: Node, stored: tuple[Any, ...]) -> Dims:
    dims = analysis.dims(node.args[0])
    if len(dims) < 2:
        raise UnknownError("the input has no channel axis")
    for tensor in stored:
        if tensor is not None:
            analysis.unify(dims[1], analysis.dims(tensor)[0], node)
    return dims


@rule("_weight_norm")
def weight_norm(analysis: Analysis, node: Node) -> Dims:
    """w = g v / |v|, the norm over all axes of v but one: dropping an entry is what zeroing it would be."""
    return broadcast(analysis, node, list(node.all_input_nodes))


@rule("batch_norm")
def batch_norm(analysis: Analysis, node: Node) -> Dims:
    """Weight, bias and running statistics follow the channels."""
    return _per_channel(analysis, node, node.args[1:5])


@rule("instance_norm")
def instance_norm(analysis: Analysis, node: Node) -> Dims:
    """Weight, bias and running statistics follow the channels."""
    return _per_channel(analysis, node, node.args[1:5])


@rule("group_norm")
def group_norm(analysis: Analysis, node: Node) -> Dims:
    """x.C ~ [groups][channels/groups] with a fixed number of groups."""
    groups: Any = node.args[1]
    channels = analysis.shape(node.args[0])[1]
    dims = analysis.dims(node.args[0])
    analysis.unify(dims[1], ((Atom(groups, FIXED), Atom(channels // groups)),), node)
    return _per_channel(analysis, node, node.args[2:4])


@rule("layer_norm", "rms_norm")
def layer_norm(analysis: Analysis, node: Node) -> Dims:
    """The normalised axes are the last ones; `normalized_shape` and the affine parameters follow them."""
    dims = analysis.dims(node.args[0])
    normalised: Any = node.args[1]
    last = dims[len(dims) - len(normalised) :]
    for tensor in node.args[2:4]:
        if analysis.is_tensor(tensor):
            for dim, stored in zip(last, analysis.dims(tensor), strict=True):
                analysis.unify(dim, stored, node)
    analysis.resize_list(node, 1, last)
    return dims
