"""The report of elastic(): what can shrink, what cannot and why, and how far the whole network can go."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from tailorbird.graph import Stage
from tailorbird.supernet.space import Dimension


@dataclass(frozen=True, slots=True)
class PinnedDimension:
    """An axis of a parameter that keeps its full size: the op that asked for it, and why."""

    name: str
    size: int
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of compiling a network to a SuperNet. MACs are for one sample."""

    model: str
    dimensions: tuple[Dimension, ...]
    pinned: tuple[PinnedDimension, ...]
    unknown_ops: tuple[str, ...]
    elastic_fraction: float
    subnets: int
    params_full: int
    params_smallest: int
    macs_full: int
    macs_smallest: int
    any_batch: bool
    notes: tuple[str, ...]
    stages: tuple[Stage, ...] = ()

    def to_json(self) -> str:
        """All fields as JSON."""
        return json.dumps(asdict(self), indent=2)

    def render(self, width: int = 110) -> str:
        """The report as plain text."""
        console = Console(width=width, record=True, file=None, quiet=False, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get()

    def __rich__(self) -> Group:
        """Tables of what is elastic and what is pinned, then the totals."""
        elastic = Table("elastic", "kind", "full", "choices", title=self.model, title_justify="left")
        for d in self.dimensions:
            choices = "skip" if d.kind == "depth" else ", ".join(map(str, d.choices[:-1]))
            elastic.add_row(d.name, d.kind, "" if d.kind == "depth" else str(d.size), choices)
        fixed = Table("pinned", "size", "op", "why")
        for p in self.pinned:
            fixed.add_row(p.name, str(p.size), p.op, p.reason)
        lines = [
            f"{self.elastic_fraction:.1%} of the parameters can shrink; {_count(self.subnets)} subnets",
            f"parameters {self.params_smallest:,} to {self.params_full:,}",
            f"MACs {self.macs_smallest:,} to {self.macs_full:,} per sample",
            *self.notes,
        ]
        if self.stages:
            shown = ", ".join(f"{stage.name} ({len(stage.layers)})" for stage in self.stages)
            lines.insert(0, f"stages that can keep their first layers: {shown}")
        return Group(elastic, *([fixed] if self.pinned else []), *map(Text, lines))


def _count(number: int) -> str:
    return (
        f"{number:,}"
        if number < 10**6
        else f"{float(number):.2e}"
        if number < 10**300
        else f"10^{len(str(number)) - 1}"
    )
