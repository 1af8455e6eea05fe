"""Constant folding: what a forward pass computes from sizes alone becomes a stored tensor.

Tables that modules build anew in every pass (slopes of ALiBi, buckets of relative positions, causal masks) then have
axes like any stored tensor: a subnet takes the entries of the heads it keeps, whatever formula made them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node, map_arg
from torch.utils import _pytree as pytree

from tailorbird.graph.regions import CONTEXTS

_LARGEST = 2**22  # entries of a folded tensor; larger ones are cheaper to compute than to carry


def fold_constants(root: GraphModule, constants: Mapping[str, Tensor], batch: int | None) -> dict[str, Tensor]:
    """Replace every computation from sizes and `constants` alone, in place; returns the new tensors by name.

    A size that may follow the batch (a multiple of the traced one) keeps an op, and all that needs it, in the graph. So
    does an autocast region. Nothing is folded that the network changes in place or hands out.
    """
    graph = root.graph
    values = _values(graph, constants, batch)
    folded: dict[str, Tensor] = {}
    for node, value in values.items():
        outside = [user for user in node.users if user not in values]
        if node.op == "get_attr" or not isinstance(value, Tensor) or not outside:
            continue
        name = f"_folded_{len(folded)}"
        folded[name] = value.detach().clone()
        root.register_buffer(name, folded[name])
        with graph.inserting_before(node):
            stored = graph.get_attr(name)
        for user in outside:
            user.replace_input_with(node, stored)
    graph.eliminate_dead_code()
    return folded


def _values(graph: Graph, constants: Mapping[str, Tensor], batch: int | None) -> dict[Node, Any]:
    """What is known before the network runs: stored constants, and results of ops on nothing else."""
    values: dict[Node, Any] = {}
    shared = _shared(graph)
    regions = 0
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in constants:
            values[node] = constants[str(node.target)]
        elif node.op == "call_function" and getattr(node.target, "__name__", "") in CONTEXTS:
            regions += 1 if node.target.__name__.startswith("_enter") else -1
        elif not regions and node not in shared and _foldable(node, values, batch):
            arguments, keywords = map_arg((node.args, node.kwargs), values.__getitem__)
            with torch.no_grad():
                result = node.target(*arguments, **keywords)
            if all(part.numel() <= _LARGEST for part in _tensors(result)):
                values[node] = result
    return values


def _foldable(node: Node, values: Mapping[Node, Any], batch: int | None) -> bool:
    if node.op != "call_function" or any(operand not in values for operand in node.all_input_nodes):
        return False
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return node.target is operator.getitem
    random = torch.Tag.nondeterministic_seeded in node.target.tags  # type: ignore[union-attr]
    if random or schema.is_mutable or not schema.name.startswith("aten::") or "empty" in schema.name:
        return False
    shapes = [part.shape for part in _tensors(node.meta.get("val"))]
    sizes = [leaf for leaf in pytree.tree_leaves((node.args, node.kwargs, shapes)) if type(leaf) is int]
    return batch is None or not any(0 < size < 2**31 and size % batch == 0 for size in sizes)


def _shared(graph: Graph) -> set[Node]:
    """Tensors that an op changes in place or that leave the network, and whatever they may share memory with."""
    found: set[Node] = set()
    stack = [node for node in graph.nodes if node.op == "output" or _mutates(node)]
    while stack:
        for operand in stack.pop().all_input_nodes:
            if operand not in found:
                found.add(operand)
                if operand.op == "call_function" and _is_view(operand):
                    stack.append(operand)
    return found


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _is_view(node: Node) -> bool:
    """Whether a result may share memory with an operand."""
    schema = getattr(node.target, "_schema", None)
    return schema is None or any(result.alias_info is not None for result in schema.returns)


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))
