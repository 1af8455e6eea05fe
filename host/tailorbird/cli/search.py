"""`tailorbird search`: the rungs of a ladder for one device."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import DeviceOption, JsonOption, OptionalDataOption, Screen, data_of
from tailorbird.cli.table import Table
from tailorbird.config import parse_us
from tailorbird.errors import UsageError
from tailorbird.types import Ladder
from tailorbird.units import count_words, share_words, time_words

if TYPE_CHECKING:
    from tailorbird.flow.proxy import OwnSearch, PredictedRegret, Transferred
    from tailorbird.profile import ProfileCost


@dataclass(frozen=True, slots=True)
class SearchedRung:
    """A rung by name: its configuration as JSON, accuracy on the validation split, microseconds."""

    name: str
    config: str
    accuracy: float
    predicted_us: float
    measured_us: float | None
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
    transferred: Transferred | None = None
    profiling: ProfileCost | None = None
    schema: str = "tailorbird.search-result/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search")(search)


def search(
    network: Annotated[Path, typer.Argument(help="Artifact folder of `train`.")],
    *,
    device: DeviceOption = "local",
    proxy: Annotated[
        str | None,
        typer.Option("--proxy", metavar="NAME", help="Search on this device; measure --device as little as needed."),
    ] = None,
    regret: Annotated[
        bool, typer.Option("--regret", help="With --proxy: search on --device itself, too, and say what was lost.")
    ] = False,
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
    if regret and proxy is None:
        raise UsageError("--regret compares with a proxy", why="no proxy is named", fix="give --proxy NAME")
    slo_us = None if slo is None else parse_us(slo)
    options = SearchOptions(rungs=rungs, least=min(4, rungs), generations=generations, population=population)
    with screen.workspace() as workspace, screen.busy(f"Searching a ladder for {device}") as progress:
        opened = open_network(network)
        splits = load_splits(data_of(data, opened.document.data))
        with ExitStack() as boards:
            board = boards.enter_context(workspace.device(device))
            other = None if proxy is None else boards.enter_context(workspace.device(proxy))
            found = search_ladder(
                workspace,
                opened,
                splits,
                board,
                options,
                slo_us=slo_us,
                proxy=other,
                regret=regret,
                note=progress.note,
            )
        progress.cached = found.result.hit
    document = found.document
    result = SearchResult(
        artifact=str(found.result.folder),
        cached=found.result.hit,
        model=found.ladder.model,
        device=found.ladder.device,
        rungs=tuple(
            SearchedRung(r.name, r.config.to_json(), r.accuracy, r.predicted_us, r.measured_us, r.macs, r.params)
            for r in found.ladder.rungs
        ),
        evaluated=document.evaluated,
        kernels_measured=document.kernels_measured,
        latency_error=document.latency_error,
        accuracy_error=document.accuracy_error,
        slo_us=found.ladder.slo_us,
        transferred=document.transferred,
        profiling=document.profiling,
    )
    error = "-" if document.latency_error is None else share_words(document.latency_error)
    work = f"{document.evaluated:,} subnets judged"
    notes = [
        *([f"profiled {proxy or device}: {document.profiling.words()}"] if document.profiling else ()),
        *(proxy_notes(document.transferred, found.ladder.device) if document.transferred else ()),
        f"{work}; latency error {error} on held-out subnets",
        f"artifact: {result.artifact}{' (cached)' if result.cached else ''}",
    ]
    screen.show(result, [ladder_table(found.ladder)], notes)


def proxy_notes(shown: Transferred, device: str) -> list[str]:
    """How a proxy served, and what that cost against a search on the device itself."""
    if shown.srcc is None:
        agreement = f"SRCC with {shown.proxy} is not known: {shown.unknown}"
    else:
        interval = "" if shown.low is None else f" (90 %: {shown.low:.2f} to {shown.high:.2f})"
        agreement = f"SRCC with {shown.proxy} {shown.srcc:.3f}{interval} over {shown.common} subnets"
    done = (
        f"at least {shown.threshold:g}: its Pareto set serves {device}"
        if shown.reused
        else f"below {shown.threshold:g}: predictor adapted to {device} and searched again"
    )
    notes = [
        f"{agreement}; {done}",
        f"measured on {device}: {shown.measured} subnets, no kernels, {shown.seconds:.1f} s",
    ]
    if shown.drift:
        notes.append(f"{device} since it was last measured: {shown.drift}")
    if shown.own is None:
        notes.append(f"{_predicted(shown, device)}; --regret searches on {device} itself to measure it")
        return notes
    own = shown.own
    cost = f"{own.kernels} kernels and {own.subnets} subnets, {own.seconds:.1f} s"
    notes.append(f"{_regret(own)}, against a search on {device} itself ({cost})")
    return notes


def _predicted(shown: Transferred, device: str) -> str:
    """The regret that needs no further measurement."""
    lost = shown.predicted
    right = "" if lost.error is None else f", right to {lost.error:.1f} %"
    whose = "" if shown.reused else f" of {shown.proxy}'s set, had it been used"
    return f"{_regret(lost)}{whose}, by what {shown.samples} samples predict of {device}{right}"


def _regret(lost: OwnSearch | PredictedRegret) -> str:
    points = f"{100 * lost.mean_regret:.2f} points on average, {100 * lost.worst_regret:.2f} at worst"
    return f"Pareto regret {points}, fastest subnet x{lost.fastest:.2f}"


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
