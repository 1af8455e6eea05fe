"""Typed access to the nodes of an exported aten graph. The only place that touches torch's private schema fields."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

aten: Any = torch.ops.aten


def arguments(node: fx.Node) -> list[Any]:
    """All arguments of an aten call in the order of its schema, defaults filled in."""
    schema: Any = node.target._schema  # type: ignore[union-attr]  # noqa: SLF001
    rest = [
        node.kwargs.get(argument.name, argument.default_value if argument.has_default_value() else None)
        for argument in schema.arguments[len(node.args) :]
    ]
    return [*node.args, *rest]


def shape_of(node: object) -> tuple[int, ...]:
    """Shape of a node's value, torch's axis order."""
    assert isinstance(node, fx.Node)
    return tuple(node.meta["val"].shape)


def is_mutating(node: fx.Node) -> bool:
    """Whether the node calls an operation that writes to one of its arguments."""
    return isinstance(node.target, OpOverload) and bool(node.target._schema.is_mutable)  # noqa: SLF001


def is_view(node: fx.Node) -> bool:
    """Whether the node's value shares memory with one of its arguments, and nothing is written."""
    if not isinstance(node.target, OpOverload) or is_mutating(node):
        return False
    schema = node.target._schema  # noqa: SLF001
    return any(value.alias_info is not None for value in itertools.chain(schema.returns, schema.arguments))


def functional_twin(node: fx.Node) -> OpOverload | None:
    """aten.relu.default for aten.relu_.default; None where aten has no such pair."""
    assert isinstance(node.target, OpOverload)
    namespace, _, name = node.target._schema.name.partition("::")  # noqa: SLF001
    packet = getattr(getattr(torch.ops, namespace), name.removesuffix("_"), None)
    overload: str = node.target._overloadname  # noqa: SLF001
    return getattr(packet, overload, None) if name.endswith("_") and packet is not None else None


def pair(value: Any) -> tuple[int, int]:
    """torch's int-or-list for two spatial axes as (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
