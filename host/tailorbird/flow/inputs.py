"""Example inputs in words: "1,3,224,224", "ids=1,16:int64[0..30521]"; how a network is called when it is compiled."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tailorbird.errors import UsageError

_FORM = re.compile(
    r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<shape>[\d,\s]+)"
    r"(?::(?P<dtype>\w+)(?:\[(?P<low>-?\d+(?:\.\d+)?)\.\.(?P<high>-?\d+(?:\.\d+)?)\])?)?"
)
_DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input: its shape with the batch, its type, and between which values (both included) an example lies.

    name: the parameter of forward() it is for, "" where its place among the inputs says so. Without a range floats are
    normally distributed and integers are 0 or 1.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""
    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read "[NAME=]SHAPE[:DTYPE[LOW..HIGH]]".

        Raises:
            UsageError: it is not of that form.
        """
        found = _FORM.fullmatch(text.strip())
        sizes = tuple(int(part) for part in found["shape"].split(",") if part.strip()) if found else ()
        if found is None or not sizes or min(sizes) < 1:
            raise UsageError(
                f"{text!r} is not a shape",
                why="an input is [NAME=]SIZES[:TYPE[LOW..HIGH]], and sizes are positive whole numbers",
                fix="write --input 1,3,32,32 or --input ids=1,16:int64[0..999]",
            )
        dtype = found["dtype"] or "float32"
        if dtype not in _DTYPES:
            raise UsageError(
                f"{dtype!r} is no input type", why=f"there are {', '.join(_DTYPES)}", fix="name one of them"
            )
        low, high = (None if found[end] is None else float(found[end]) for end in ("low", "high"))
        if low is not None and high is not None and low > high:
            raise UsageError(f"the range of {text!r} is empty", fix=f"write [{found['high']}..{found['low']}]")
        return cls(sizes, dtype, found["name"] or "", low, high)

    def example(self, random: torch.Generator) -> torch.Tensor:
        """Values drawn from a generator."""
        kind: torch.dtype = getattr(torch, self.dtype)
        if self.low is not None and self.high is not None and kind.is_floating_point:
            return (torch.rand(self.shape, generator=random) * (self.high - self.low) + self.low).to(kind)
        if kind.is_floating_point:
            return torch.randn(self.shape, generator=random).to(kind)
        low, high = int(self.low or 0), int(1 if self.high is None else self.high)
        return torch.randint(low, high + 1, self.shape, generator=random).to(kind)


def examples(inputs: Sequence[InputSpec]) -> tuple[torch.Tensor, ...]:
    """Example inputs, the same each time."""
    random = torch.Generator().manual_seed(0)
    return tuple(spec.example(random) for spec in inputs)


def arranged(inputs: Sequence[InputSpec], model: nn.Module) -> tuple[InputSpec, ...]:
    """Inputs in the order of forward()'s parameters: those without a name first, as they come.

    Raises:
        UsageError: forward() has no such parameter, or one before it is left out.
    """
    names = [
        parameter.name
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    ordered = [spec for spec in inputs if not spec.name]
    named = {spec.name: spec for spec in inputs if spec.name}
    where = f"{type(model).__name__}.forward"
    known = f"its parameters are {', '.join(names) or 'not named'}"
    if unknown := [name for name in named if name not in names]:
        raise UsageError(f"{where} takes no {unknown[0]!r}", why=known, fix="name one of them, or give no name")
    if len(named) + len(ordered) < len(inputs):
        raise UsageError("an input is given twice", why=known, fix="give each name once")
    while named:
        name = names[len(ordered)] if len(ordered) < len(names) else ""
        if name not in named:
            raise UsageError(
                f"{where} gets no {name!r}" if name else f"{where} takes fewer inputs",
                why=f"{known}; inputs are passed by position, without gaps",
                fix="give it, too, or wrap the model in a module that takes just your inputs",
            )
        ordered.append(named.pop(name))
    return tuple(ordered)
