"""`tailorbird search`: the rungs of a ladder for one device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.screen import DeviceOption, JsonOption, OptionalDataOption, Screen, Table, data_of
from tailorbird.config import parse_us
from tailorbird.types import Ladder
from tailorbird.units import count_words, share_words, time_words


@dataclass(frozen=True, slots=True)
class SearchedRung:
    """A rung by name: its configuration as JSON, accuracy on the validation split, predicted microseconds."""

    name: str
    config: str
    accuracy: float
    predicted_us: float
    macs: int
    params: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of `search`. latency_error: mean absolute error on held-out subnets, a fraction."""

    artifact: str
    cached: bool
    model: str
    device: str
    rungs: tuple[SearchedRung, ...]
    evaluated: int
    kernels_measured: int
    latency_error: float | None
    accuracy_error: float
    slo_us: float | None
    schema: str = "tailorbird.search-result/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search")(search)


def search(
    network: Annotated[Path, typer.Argument(help="Artifact folder of `train`.")],
    *,
    device: DeviceOption = "local",
    data: OptionalDataOption = None,
    slo: Annotated[
        str | None, typer.Option("--slo", help="Deadline, e.g. 25ms; by default derived from the ladder.")
    ] = None,
    rungs: Annotated[int, typer.Option("--rungs", min=2, max=16, help="Most rungs of the ladder.")] = 6,
    generations: Annotated[int, typer.Option("--generations", min=1, help="Generations of NSGA-II.")] = 24,
    population: Annotated[int, typer.Option("--population", min=4, help="Subnets per generation.")] = 32,
    as_json: JsonOption = False,
) -> None:
    """Measure kernels on a device, predict the latency and accuracy of subnets, and search a Pareto ladder."""
    from tailorbird.flow.data import load_splits
    from tailorbird.flow.network import open_network
    from tailorbird.flow.search import SearchOptions, search_ladder

    screen = Screen(as_json=as_json)
    slo_us = None if slo is None else parse_us(slo)
    options = SearchOptions(rungs=rungs, least=min(4, rungs), generations=generations, population=population)
    with screen.workspace() as workspace, screen.busy(f"Searching a ladder for {device}") as progress:
        opened = open_network(network)
        splits = load_splits(data_of(data, opened.document.data))
        with workspace.device(device) as board:
            found = search_ladder(workspace, opened, splits, board, options, slo_us=slo_us, note=progress.note)
        progress.cached = found.result.hit
    document = found.document
    result = SearchResult(
        artifact=str(found.result.folder),
        cached=found.result.hit,
        model=found.ladder.model,
        device=found.ladder.device,
        rungs=tuple(
            SearchedRung(r.name, r.config.to_json(), r.accuracy, r.predicted_us, r.macs, r.params)
            for r in found.ladder.rungs
        ),
        evaluated=document.evaluated,
        kernels_measured=document.kernels_measured,
        latency_error=document.latency_error,
        accuracy_error=document.accuracy_error,
        slo_us=found.ladder.slo_us,
    )
    error = "-" if document.latency_error is None else share_words(document.latency_error)
    work = f"{document.evaluated:,} subnets judged, {document.kernels_measured} kernels measured"
    notes = [
        f"{work}; latency error {error} on held-out subnets",
        f"artifact: {result.artifact}{' (cached)' if result.cached else ''}",
    ]
    screen.show(result, [ladder_table(found.ladder)], notes)


def ladder_table(ladder: Ladder) -> Table:
    """The rungs, smallest first."""
    return Table(
        f"{ladder.model} on {ladder.device}",
        ("rung", "accuracy", "predicted", "measured", "MACs", "parameters"),
        tuple(
            (
                r.name,
                share_words(r.accuracy),
                time_words(r.predicted_us),
                "-" if r.measured_us is None else time_words(r.measured_us),
                count_words(r.macs),
                count_words(r.params),
            )
            for r in ladder.rungs
        ),
    )
