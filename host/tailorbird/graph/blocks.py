"""Residual blocks: `add(x, f(x))` whose body can be bypassed; x may pass a scale or a norm on its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Graph, Node

from tailorbird.graph.algebra import Dims
from tailorbird.graph.capture import op_name
from tailorbird.graph.registry import MACS


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: skipping it replaces `add` by `bypass`; `body` are the nodes from one to the other."""

    name: str
    add: Node
    bypass: Node
    body: frozenset[Node]


def find_blocks(graph: Graph, dims: Mapping[Node, Dims]) -> tuple[Block, ...]:
    """All residual blocks in graph order, named after the user's module that holds them."""
    live = _fed_by_inputs(graph)
    found: list[tuple[Node, Node, frozenset[Node]]] = []
    for node in graph.nodes:
        if node.op != "call_function" or op_name(node) not in {"add", "add_"} or node not in dims:
            continue
        if node.kwargs.get("alpha", 1) != 1:
            continue
        left, right = node.args[:2]
        if not isinstance(left, Node) or not isinstance(right, Node) or left is right:
            continue
        for bypass, end in ((left, right), (right, left)):
            if bypass in live and dims.get(bypass) == dims.get(end) == dims[node] and _dtype(bypass) == _dtype(node):
                stems = (stem for stem in _shortcut(bypass, live) if dims.get(stem) == dims[node])
                bodies = (_body(stem, end) for stem in stems)
                body = next((body for body in bodies if _can_go(node, body)), None)
                if body is not None:
                    found.append((node, bypass, body))
                    break
        else:
            found += [(node, *block) for block in _parallel(node, live, dims)][:1]
    names = _names([body for _, _, body in found])
    return tuple(Block(name, *parts) for name, parts in zip(names, found, strict=True))


def _dtype(node: Node) -> torch.dtype:
    value: Tensor = node.meta["val"]
    return value.dtype


def _fed_by_inputs(graph: Graph) -> set[Node]:
    live: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(operand in live for operand in node.all_input_nodes):
            live.add(node)
    return live


def _shortcut(bypass: Node, live: Collection[Node]) -> Iterator[Node]:
    """Where the branches of a block may part: at the bypass, or before the scales and norms that lead to it.

    A shortcut without a product of its own still carries the stream, so the branch beside it can go.
    """
    node = bypass
    yield node
    while node.op == "call_function" and op_name(node) not in MACS:
        streams = [operand for operand in node.all_input_nodes if operand in live]
        if len(streams) != 1:
            return
        node = streams[0]
        yield node


def _parallel(add: Node, live: Collection[Node], dims: Mapping[Node, Dims]) -> Iterator[tuple[Node, frozenset[Node]]]:
    """The stream x and the body of x + f(x) + g(x), whose branches share what they start with: they go together."""
    for inner, other in (add.args[:2], add.args[1::-1]):
        if not isinstance(inner, Node) or op_name(inner) not in {"add", "add_"} or len(inner.users) > 1:
            continue
        for bypass, branch in (inner.args[:2], inner.args[1::-1]):
            if isinstance(bypass, Node) and bypass in live and dims.get(bypass) == dims[add]:
                body = _body(bypass, add) - {add}
                if other in body and branch in body and _can_go(add, body):
                    yield bypass, body


def _body(start: Node, end: Node) -> frozenset[Node]:
    """Nodes on a path from `start` (exclusive) to `end` (inclusive); empty when there is none."""
    after: set[Node] = {start}
    node = start
    while node is not end and node.op != "output":
        node = node.next
        if any(operand in after for operand in node.all_input_nodes):
            after.add(node)
    if end not in after or end is start:
        return frozenset()
    body: set[Node] = set()
    stack = [end]
    while stack:
        node = stack.pop()
        if node is not start and node in after and node not in body:
            body.add(node)
            stack.extend(node.all_input_nodes)
    return frozenset(body)


def _can_go(add: Node, body: frozenset[Node]) -> bool:
    """Whether nothing else needs the body, and the body is worth skipping: it holds a weight."""
    if not any(_weights(node) for node in body) or any(_mutates(node) for node in body):
        return False
    return all(user in body or user is add for node in body for user in node.users)


def _mutates(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


def _weights(node: Node) -> list[Node]:
    return [operand for operand in node.all_input_nodes if operand.op == "get_attr" and "." in str(operand.target)]


def _names(bodies: list[frozenset[Node]]) -> list[str]:
    """The deepest module that holds all weights of a body; if that is ambiguous, its child with the last weight."""
    owners = [_owners(body) for body in bodies]
    names = [_common_prefix(names) for names in owners]
    counts = Counter(names)
    for index, name in enumerate(names):
        if not name or counts[name] > 1:
            depth = len(name.split(".")) if name else 0
            names[index] = ".".join(owners[index][-1].split(".")[: depth + 1])
    return unique(names)


def _owners(body: frozenset[Node]) -> list[str]:
    """Modules that own the weights of a body, in graph order."""
    if not body:
        return []
    node = next(iter(next(iter(body)).graph.nodes))
    found = []
    while node.op != "output":
        if node in body:
            found += [str(weight.target).rpartition(".")[0] for weight in _weights(node)]
        node = node.next
    return found


def _common_prefix(paths: Iterable[str]) -> str:
    shared: list[str] | None = None
    for path in paths:
        parts = path.split(".")
        if shared is None:
            shared = parts
        else:
            size = next((i for i, (a, b) in enumerate(zip(shared, parts, strict=False)) if a != b), None)
            shared = shared[: min(len(shared), len(parts)) if size is None else size]
    return ".".join(shared or [])


def unique(names: Iterable[str]) -> list[str]:
    """Names made distinct by a number: `a`, `a#2`, `a#3`."""
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return result
