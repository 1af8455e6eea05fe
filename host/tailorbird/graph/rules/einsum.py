"""einsum: every letter names one axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import UNIT, Dim, Dims
from tailorbird.graph.registry import Shape, UnknownError, macs, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis


@rule("einsum")
def einsum(analysis: Analysis, node: Node) -> Dims:
    """Axes under one letter keep the same indices. Of two activations, a letter that is summed makes scores."""
    operands: Any = node.args[1]
    inputs, output = letters(str(node.args[0]), [len(analysis.shape(operand)) for operand in operands])
    found: dict[str, Dim] = {}
    sizes: dict[str, int] = {}
    for operand, names in zip(operands, inputs, strict=True):
        if len(set(names)) < len(names):
            raise UnknownError("a letter occurs twice in one operand: a diagonal")
        for name, dim, size in zip(names, analysis.dims(operand), analysis.shape(operand), strict=True):
            if size == 1 and sizes.get(name, 1) > 1:
                continue
            if sizes.get(name, 1) > 1:
                analysis.unify(found[name], dim, node)
            else:
                found[name], sizes[name] = dim, size
    if len(operands) == 2 and not any(operand.op == "get_attr" for operand in operands):
        both = set(inputs[0]) & set(inputs[1])
        leading = tuple(found[name] for name in output if name in both)
        for name in sorted(both - set(output)):
            analysis.score(node, found[name], leading)
    return tuple(found.get(name, UNIT) for name in output)


def letters(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters of every operand and of the result; those of an ellipsis become Greek ones."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    parts = left.split(",")
    spare = [chr(code) for code in range(0x3B1, 0x3CA)]  # Greek: no equation holds them
    wide = max(rank - len(part.replace("...", "")) for part, rank in zip(parts, ranks, strict=True))
    inputs = []
    for part, rank in zip(parts, ranks, strict=True):
        extra = rank - len(part.replace("...", ""))
        inputs.append(part.replace("...", "".join(spare[wide - extra : wide])))
    if arrow:
        return inputs, right.replace("...", "".join(spare[:wide]))
    once = sorted(name for name in set(left) - set(".,") if left.count(name) == 1)
    return inputs, "".join([*(spare[:wide] if "..." in left else []), *once])


@macs("einsum")
def einsum_macs(node: Node, shape: Callable[[Node], Shape]) -> int:
    """One product for each combination of letters; more than two operands are counted as if multiplied at once."""
    operands: Any = node.args[1]
    shapes = [shape(operand) for operand in operands]
    inputs, _ = letters(str(node.args[0]), [len(size) for size in shapes])
    sizes: dict[str, int] = {}
    for names, size in zip(inputs, shapes, strict=True):
        for name, extent in zip(names, size, strict=True):
            sizes[name] = max(extent, sizes.get(name, 1))
    return math.prod(sizes.values()) * max(1, len(operands) - 1)
