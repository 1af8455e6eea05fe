"""`tailorbird supernet`: what of a model is elastic, and a SuperNet to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen, Table
from tailorbird.errors import UsageError
from tailorbird.ui.units import count_words, share_words


@dataclass(frozen=True, slots=True)
class ElasticDimension:
    """One elastic dimension; the last choice is the full size."""

    name: str
    kind: str
    size: int
    choices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PinnedAxis:
    """An axis that keeps its size, and why."""

    name: str
    size: int
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class SuperNetResult:
    """Result of `supernet`. subnets is a decimal string: it can exceed what JSON readers take for a number."""

    artifact: str
    cached: bool
    model: str
    elastic: tuple[ElasticDimension, ...]
    pinned: tuple[PinnedAxis, ...]
    elastic_fraction: float
    subnets: str
    params_full: int
    params_smallest: int
    macs_full: int
    macs_smallest: int
    notes: tuple[str, ...]
    schema: str = "tailorbird.supernet/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("supernet")(supernet)


def supernet(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL.py:make", help="File (or module) and a callable that returns a torch module."),
    ],
    *,
    shape: Annotated[str, typer.Option("--input", help="Shape of the input with its batch, e.g. 1,3,32,32.")],
    weights: Annotated[
        Path | None, typer.Option("--weights", help="State dict to load: .safetensors, .pt or .pth.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a model to a SuperNet; print what is elastic, what is pinned and why, and how many subnets there are."""
    from tailorbird.flow.network import build_supernet, load_weights
    from tailorbird.flow.source import Source, load_model

    screen = Screen(as_json=as_json)
    source = Source.parse(model)
    sizes = parse_shape(shape)
    with screen.workspace() as workspace, screen.busy("Making the model elastic") as progress:
        user = load_model(source)
        if weights is not None:
            load_weights(user, weights)
        network = build_supernet(workspace, source, sizes, model=user)
        progress.cached = network.result.hit
    report = network.net.report
    result = SuperNetResult(
        artifact=str(network.result.folder),
        cached=network.result.hit,
        model=report.model,
        elastic=tuple(ElasticDimension(d.name, d.kind, d.size, d.choices) for d in report.dimensions),
        pinned=tuple(PinnedAxis(p.name, p.size, p.op, p.reason) for p in report.pinned),
        elastic_fraction=report.elastic_fraction,
        subnets=str(report.subnets),
        params_full=report.params_full,
        params_smallest=report.params_smallest,
        macs_full=report.macs_full,
        macs_smallest=report.macs_smallest,
        notes=report.notes,
    )
    screen.show(result, supernet_tables(result), supernet_notes(result))


def supernet_tables(result: SuperNetResult) -> list[Table]:
    """What is elastic and what is pinned."""
    elastic = Table(
        f"{result.model}: elastic",
        ("dimension", "kind", "full", "choices"),
        tuple(
            (d.name, d.kind, "", "skip")
            if d.kind == "depth"
            else (d.name, d.kind, str(d.size), _listed(d.choices[:-1]))
            for d in result.elastic
        ),
        words=("kind", "choices"),
    )
    pinned = Table(
        "pinned",
        ("axis", "size", "op", "why"),
        tuple((p.name, str(p.size), p.op, p.reason) for p in result.pinned),
        words=("op", "why"),
    )
    return [elastic, *([pinned] if result.pinned else [])]


def supernet_notes(result: SuperNetResult) -> list[str]:
    """Totals and where the artifact lies."""
    parameters = f"{count_words(result.params_smallest)} to {count_words(result.params_full)}"
    macs = f"{count_words(result.macs_smallest)} to {count_words(result.macs_full)}"
    return [
        f"{int(result.subnets):,} subnets; {share_words(result.elastic_fraction)} of the parameters can shrink",
        f"parameters {parameters}; MACs {macs}",
        *result.notes,
        f"artifact: {result.artifact}{' (cached)' if result.cached else ''}",
    ]


def parse_shape(text: str) -> tuple[int, ...]:
    """The sizes of "1,3,32,32".

    Raises:
        UsageError: not positive whole numbers.
    """
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(
            f"{text!r} is not a shape", why="sizes are positive whole numbers", fix="write --input 1,3,32,32"
        )
    return sizes


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
