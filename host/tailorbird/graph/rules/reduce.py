"""Reductions: the reduced axes keep their indices in line but need not be fixed, since order does not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dims
from tailorbird.graph.registry import Several, UnknownError, rule
from tailorbird.graph.rules.elementwise import broadcast
from tailorbird.graph.rules.index import pin_positions

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("mean", "sum", "amax", "amin", "aminmax", "var", "std", "var_mean", "std_mean", "prod", "any", "all", "logsumexp")
def reduction(analysis: Analysis, node: Node) -> Dims | Several:
    """The reduced axes vanish, or stay with size 1 (`keepdim`)."""
    return _reduced(analysis, node, node.args[1] if len(node.args) > 1 else node.kwargs.get("dim"))


@rule("linalg_vector_norm", "norm")
def vector_norm(analysis: Analysis, node: Node) -> Dims | Several:
    """As a sum; the axes follow the order of the norm."""
    return _reduced(analysis, node, node.args[2] if len(node.args) > 2 else None)


@rule("max", "min")
def extremum(analysis: Analysis, node: Node) -> Dims | Several:
    """Of all entries, of two tensors, or along an axis: then also its position, which needs a fixed axis."""
    if len(node.args) == 2 and analysis.is_tensor(node.args[1]):
        return broadcast(analysis, node, list(node.all_input_nodes))
    if len(node.args) > 1 and any(user.args[1] == 1 for user in node.users):
        axis = node.args[1]
        assert isinstance(axis, int)
        pin_positions(analysis, node, analysis.dims(node.args[0])[axis])
    return reduction(analysis, node)


@rule("argmax", "argmin")
def position(analysis: Analysis, node: Node) -> Dims | Several:
    """The position of an extremum along a fixed axis (of all entries without one)."""
    dims = analysis.dims(node.args[0])
    axis = node.args[1]
    for dim in dims if axis is None else [dims[axis]]:  # type: ignore[index]
        pin_positions(analysis, node, dim)
    return reduction(analysis, node)


def _reduced(analysis: Analysis, node: Node, named: Any) -> Dims | Several:
    dims = analysis.dims(node.args[0])
    value = node.meta["val"]
    results = value if isinstance(value, list | tuple) else [value]
    rank = results[0].ndim
    every = isinstance(named, bool) or not isinstance(named, int | list | tuple) or named in ([], ())
    axes: Any = range(len(dims)) if every else [named] if isinstance(named, int) else named
    reduced = {axis % len(dims) for axis in axes} if dims else set()
    if rank == len(dims):
        found = tuple(UNIT if axis in reduced else dim for axis, dim in enumerate(dims))
    elif rank == len(dims) - len(reduced):
        found = tuple(dim for axis, dim in enumerate(dims) if axis not in reduced)
    else:
        raise UnknownError("which axes are reduced is not clear")
    return Several((found,) * len(results)) if isinstance(value, list | tuple) else found
