"""Mutation: from ops that change a tensor in place to ops that return the changed tensor.

Only where that is provably the same: the tensor is made by the graph itself, and no other name for its memory is read
afterwards. Unused code can then be dropped, and blocks that write can be skipped.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, Node

from tailorbird.graph.op import may_alias, op_name


def remove_mutation(graph: Graph) -> None:
    """Rewrite `op_(x)` to `op(x)`, and a write into a slice of x to a scatter into x, in place."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        name = op_name(node) if node.op == "call_function" else ""
        if not name.endswith("_") or name.endswith("__") or not isinstance(node.args[0], Node):
            continue
        functional = getattr(torch.ops.aten, name[:-1], None)
        overload = getattr(functional, str(node.target).rpartition(".")[2], None)
        views, owner = _views(node.args[0])
        if overload is None or owner.op != "call_function" or may_alias(owner) or owner.target is operator.getitem:
            continue
        if any(_aliases_read(user, order, node, views) for user in owner.users if order[user] < order[node]):
            continue
        node.target = overload
        last = node
        for view in views:
            with graph.inserting_after(last):
                last = _scatter(graph, view, last)
            order[last] = order[node]
        owner.replace_all_uses_with(last, delete_user_cb=_used_after(order, node))


def _views(node: Node) -> tuple[list[Node], Node]:
    """The slices and entries that lead to a node, innermost first, and the tensor they look into."""
    views = []
    while node.op == "call_function" and op_name(node) in {"slice", "select"} and isinstance(node.args[0], Node):
        views.append(node)
        node = node.args[0]
    return views, node


def _aliases_read(user: Node, order: dict[Node, int], write: Node, views: list[Node]) -> bool:
    """Whether the memory that a user of the owner looks into is read under that name by or after the write."""
    if user.op != "call_function" or not may_alias(user):
        return False
    later = [other for other in user.users if other is not write and order[other] >= order[write]]
    if user in views:
        return bool(later) or any(
            _aliases_read(other, order, write, views) for other in user.users if order[other] < order[write]
        )
    return bool(later) or any(order[other] < order[write] and may_alias(other) for other in user.users)


def _scatter(graph: Graph, view: Node, value: Node) -> Node:
    """The tensor that `view` looks into, with `value` in that place."""
    whole = view.args[0]
    target: Any = torch.ops.aten.slice_scatter.default
    if op_name(view) == "select":
        target = torch.ops.aten.select_scatter.default
    made = graph.call_function(target, (whole, value, *view.args[1:]))
    assert isinstance(whole, Node)
    made.meta = dict(whole.meta)
    return made


def _used_after(order: dict[Node, int], node: Node) -> Callable[[Node], bool]:
    return lambda user: order[user] > order[node]
