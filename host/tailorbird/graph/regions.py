"""Regions: parts of a forward pass that run without gradients or under their own autocast, inlined into the graph.

torch.export keeps `with torch.no_grad():` as a graph of its own. Inlined, its results are detached, which lets through
exactly the gradients the region lets through: none. An autocast region is entered and left by nodes around its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

_GRADIENTS, _AUTOCAST = "wrap_with_set_grad_enabled", "wrap_with_autocast"
_SUBGRAPH = {_GRADIENTS: 1, _AUTOCAST: 4}  # position of the region among the arguments

CONTEXTS = frozenset({"_enter_autocast", "_exit_autocast"})  # ops without data that must run where they stand


def inline_regions(owner: nn.Module, graph: Graph) -> None:
    """Replace every region of `graph`, whose attributes are those of `owner`, by its nodes, in place."""
    for node in list(graph.nodes):
        kind = getattr(node.target, "__name__", "") if node.op == "call_function" else ""
        if kind in _SUBGRAPH:
            _inline(owner, graph, node, kind)


def _inline(owner: nn.Module, graph: Graph, node: Node, kind: str) -> None:
    position = _SUBGRAPH[kind]
    reference: Any = node.args[position]
    region: Any = owner.get_submodule(reference.target)
    inline_regions(region, region.graph)
    new: dict[Node, Any] = {}
    given = iter(node.args[position + 1 :])
    results: Any = ()
    context: Node | None = None
    with graph.inserting_before(node):
        if kind == _AUTOCAST:
            context = graph.call_function(torch.amp.autocast_mode._enter_autocast, node.args[:position])  # noqa: SLF001
        for inner in region.graph.nodes:
            if inner.op == "placeholder":
                new[inner] = next(given)
            elif inner.op == "output":
                results = torch.fx.map_arg(inner.args[0], new.__getitem__)
            else:
                new[inner] = graph.node_copy(inner, new.__getitem__)
        if context is not None:
            graph.call_function(torch.amp.autocast_mode._exit_autocast, (context,))  # noqa: SLF001
        elif node.args[0] is False:
            results = [_detached(graph, result) for result in results]
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)
    if not reference.users:
        graph.erase_node(reference)


def _detached(graph: Graph, result: Any) -> Any:
    value = result.meta.get("val") if isinstance(result, Node) else None
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return result
    detached = graph.call_function(torch.ops.aten.detach.default, (result,))
    detached.meta = dict(result.meta)
    return detached
