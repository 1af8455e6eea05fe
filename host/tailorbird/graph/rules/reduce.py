"""Reductions: the reduced axes keep their indices in line but need not be fixed, since order does not matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dims
from tailorbird.graph.registry import UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("mean", "sum", "amax", "amin", "var", "std")
def reduction(analysis: Analysis, node: Node) -> Dims:
    """The reduced axes vanish, or stay with size 1 (`keepdim`)."""
    source = node.args[0]
    dims = analysis.dims(source)
    named = node.args[1] if len(node.args) > 1 else None
    if isinstance(named, bool) or not isinstance(named, int | list | tuple):
        return _all(analysis, node)
    axes: Any = [named] if isinstance(named, int) else named
    if not axes:
        return _all(analysis, node)
    reduced = {axis % len(dims) for axis in axes}
    if len(analysis.shape(node)) == len(dims):
        return tuple(UNIT if axis in reduced else dim for axis, dim in enumerate(dims))
    return tuple(dim for axis, dim in enumerate(dims) if axis not in reduced)


def _all(analysis: Analysis, node: Node) -> Dims:
    if analysis.shape(node):
        raise UnknownError("which axes are reduced is not clear")
    return ()
