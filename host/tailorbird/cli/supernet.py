"""`tailorbird supernet`: what of a model is elastic, and a SuperNet to train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.errors import UsageError

if TYPE_CHECKING:  # the report's module pulls in torch; --help does without
    from tailorbird.graph import Stage
    from tailorbird.supernet.atlas import Atlas
    from tailorbird.supernet.report import ElasticDimension, PinnedDimension, Report


@dataclass(frozen=True, slots=True)
class SuperNetResult:
    """Result of `supernet`. subnets is a decimal string: it can exceed what JSON readers take for a number.

    MACs and activation bytes are for one sample; html: the page that was asked for.
    """

    artifact: str
    cached: bool
    model: str
    inputs: tuple[str, ...]
    elastic: tuple[ElasticDimension, ...]
    stages: tuple[Stage, ...]
    pinned: tuple[PinnedDimension, ...]
    unknown_ops: tuple[str, ...]
    elastic_fraction: float
    subnets: str
    params_full: int
    params_smallest: int
    macs_full: int
    macs_smallest: int
    peak_bytes_full: int
    peak_bytes_smallest: int
    any_batch: bool
    notes: tuple[str, ...]
    build_seconds: float
    html: str | None = None
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
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="[NAME=]SIZES[:TYPE[LOW..HIGH]]",
            help="An input with its batch: 1,3,224,224 or ids=1,16:int64[0..999]. Once for each input of the model.",
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option("--weights", help="State dict to load: .safetensors, .pt or .pth.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="PATTERN", help="Make just these elastic, e.g. 'layer2.*'.")
    ] = None,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", metavar="PATTERN", help="Leave these as they are, e.g. 'stem*'.")
    ] = None,
    divisor: Annotated[int, typer.Option("--divisor", min=1, help="Keep channels in multiples of this.")] = 8,
    choices: Annotated[
        list[str] | None,
        typer.Option("--choices", metavar="PATTERN=SIZES", help="Offer these sizes, e.g. 'layer2.*=8,16'."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print every dimension and axis on its own line.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Draw the graph with its groups, as one page.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile a model to a SuperNet; print what is elastic, what is pinned and why, and how many subnets there are."""
    from tailorbird.flow.inputs import InputSpec
    from tailorbird.flow.network import load_weights, read_atlas, survey_supernet
    from tailorbird.flow.source import Source, load_model
    from tailorbird.supernet import Options
    from tailorbird.supernet.page import page

    screen = Screen(as_json=as_json)
    source = Source.parse(model)
    specs = [InputSpec.parse(text) for text in inputs]
    options = Options.of(only or None, freeze, divisor, dict(map(_sizes, choices or ())))
    with screen.workspace() as workspace, screen.busy("Making the model elastic") as progress:
        user = load_model(source)
        if weights is not None:
            load_weights(user, weights)
        report, made = survey_supernet(workspace, source, specs, model=user, options=options)
        progress.cached = made.hit
        if html is not None:
            _draw(html, report, read_atlas(made.folder))
    result = SuperNetResult(
        artifact=str(made.folder),
        cached=made.hit,
        model=report.model,
        inputs=report.inputs,
        elastic=report.dimensions,
        stages=report.stages,
        pinned=report.pinned,
        unknown_ops=report.unknown_ops,
        elastic_fraction=report.elastic_fraction,
        subnets=str(report.subnets),
        params_full=report.params_full,
        params_smallest=report.params_smallest,
        macs_full=report.macs_full,
        macs_smallest=report.macs_smallest,
        peak_bytes_full=report.peak_bytes_full,
        peak_bytes_smallest=report.peak_bytes_smallest,
        any_batch=report.any_batch,
        notes=report.notes,
        build_seconds=report.build_seconds,
        html=None if html is None else str(html.absolute()),
    )
    notes = [
        *([f"graph: {html}"] if html is not None else []),
        f"artifact: {result.artifact}{' (cached)' if result.cached else ''}",
    ]
    screen.show_page(result, page(report, everything=everything), notes)


def _draw(path: Path, report: Report, atlas: Atlas) -> None:
    from tailorbird.ui.network import render_network

    page = render_network(report, atlas)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}", why=str(error), fix="give another file with --html") from error


def _sizes(text: str) -> tuple[str, tuple[int, ...]]:
    """A pattern and the sizes it asks for, from "layer2.*=8,16".

    Raises:
        UsageError: it is not of that form.
    """
    pattern, _, sizes = text.rpartition("=")
    try:
        return pattern or "*", tuple(int(size) for size in sizes.split(","))
    except ValueError:
        raise UsageError(
            f"{text!r} names no choices", why="they are whole numbers after a pattern", fix="write 'layer2.*=8,16'"
        ) from None
