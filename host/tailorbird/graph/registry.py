"""The rule registry: what each op does to the dims of its operands, and what it costs.

A rule is one small function in `rules/`, named after its op family:

    @rule("relu", "gelu")
    def pointwise(analysis: Analysis, node: Node) -> Dims: ...

It reads the dims of the operands, unifies or pins what the op ties together, tells which integer arguments follow a dim
(`analysis.resize`), and returns the dims of its result (`Several` for several results). It raises `UnknownError`
when the op is used in a way it does not cover; the analysis then pins every axis the op touches. All positional schema
arguments of a node are present in `node.args`, defaults included. An op that multiplies also gets a cost function
(`@macs`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from torch.fx import Node

from tailorbird.graph.algebra import Dims

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Several:
    """Dims of an op with several results; None where a result is no tensor."""

    dims: tuple[Dims | None, ...]


Result = Dims | Several
Rule = Callable[["Analysis", Node], Result]
Macs = Callable[[Node, Callable[[Node], Shape]], int]

RULES: dict[str, Rule] = {}
MACS: dict[str, Macs] = {}

_R = TypeVar("_R", bound=Rule)
_M = TypeVar("_M", bound=Macs)


class UnknownError(Exception):
    """A rule does not cover this use of its op; the text is the reason given in the report."""


def rule(*names: str) -> Callable[[_R], _R]:
    """Register a rule for ops by short name (`conv2d`; `library::op` outside ATen)."""

    def register(function: _R) -> _R:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


def macs(*names: str) -> Callable[[_M], _M]:
    """Register a cost function: (node, shape of a node) -> multiply-accumulate operations."""

    def register(function: _M) -> _M:
        MACS.update(dict.fromkeys(names, function))
        return function

    return register
