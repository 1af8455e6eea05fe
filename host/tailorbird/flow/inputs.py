"""Example inputs in words: "1,3,224,224", "ids=1,16:int64[0..30521]"; how a network is called when it is compiled."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

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

    name: the parameter of forward() it is for, "" where its place among the inputs says so; keyword: whether it is
    passed by that name. Without a range floats are normally distributed and integers are 0 or 1.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""
    low: float | None = None
    high: float | None = None
    keyword: bool = False

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


def examples(inputs: Sequence[InputSpec]) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
    """Positional and keyword inputs, the same each time."""
    random = torch.Generator().manual_seed(0)
    made = [(spec, spec.example(random)) for spec in inputs]
    return tuple(x for spec, x in made if not spec.keyword), {spec.name: x for spec, x in made if spec.keyword}


def arranged(inputs: Sequence[InputSpec], model: nn.Module) -> tuple[InputSpec, ...]:
    """Inputs as forward() takes them: those without a name as they come, then by place, and what is left by name.

    Raises:
        UsageError: forward() has no such parameter, or an input is given twice.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    by_place = [p.name for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    ordered = [spec for spec in inputs if not spec.name]
    named = {spec.name: spec for spec in inputs if spec.name}
    known = f"its parameters are {', '.join((*by_place, *by_name)) or 'not named'}"
    unknown = [name for name in named if name not in {*by_place, *by_name}]
    if unknown and not takes_any:
        raise UsageError(
            f"{type(model).__name__}.forward takes no {unknown[0]!r}",
            why=known,
            fix="name one of them, or give no name",
        )
    taken = [name for name in named if name in by_place[: len(ordered)]]
    if taken or len(named) + len(ordered) < len(inputs):
        raise UsageError("an input is given twice", why=known, fix="give each parameter once")
    while named and len(ordered) < len(by_place) and by_place[len(ordered)] in named:
        ordered.append(named.pop(by_place[len(ordered)]))
    return (*ordered, *(replace(spec, keyword=True) for spec in named.values()))
