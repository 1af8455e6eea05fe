"""`tailorbird compile`: every rung for every runtime of the device, the faster one packed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import DeviceOption, JsonOption, OptionalDataOption, Screen, ThreadsOption, data_of
from tailorbird.cli.table import Table
from tailorbird.config import parse_seconds, parse_us
from tailorbird.types import Ladder
from tailorbird.units import byte_words, share_words, time_words

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from tailorbird.flow.compile import CompileOutcome, RungRecord
    from tailorbird.flow.tune import TuningRecord


@dataclass(frozen=True, slots=True)
class CompileResult:
    """Result of `compile`: the measured ladder and every build behind it."""

    artifact: str
    cached: bool
    bundle: str
    bundle_bytes: int
    ladder: Ladder
    rungs: tuple[RungRecord, ...]
    dropped: tuple[str, ...]
    tuning: TuningRecord | None
    schema: str = "tailorbird.compile-result/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compile")(compile_ladder)


def compile_ladder(
    ladder: Annotated[Path, typer.Argument(help="Artifact folder of `search`.")],
    *,
    device: DeviceOption = "local",
    data: OptionalDataOption = None,
    tune: Annotated[
        str | None, typer.Option("--tune", help="Time to tune TVM kernels on the device, e.g. 20s.")
    ] = None,
    slo: Annotated[
        str | None, typer.Option("--slo", help="Deadline, e.g. 25ms; by default derived from the ladder.")
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build each rung for TVM and LiteRT, check both against torch, measure both on the device, pack the faster."""
    from tailorbird.flow.compile import compile_ladder as run
    from tailorbird.flow.data import load_splits
    from tailorbird.flow.network import open_network
    from tailorbird.flow.search import open_search

    screen = Screen(as_json=as_json)
    tune_s = None if tune is None else parse_seconds(tune)
    slo_us = None if slo is None else parse_us(slo)
    with screen.workspace(threads=threads) as workspace, screen.busy(f"Compiling for {device}") as progress:
        found = open_search(open_network(ladder))
        splits = load_splits(data_of(data, found.network.document.data))
        with workspace.device(device) as board:
            outcome = run(workspace, found, splits, board, tune_s=tune_s, slo_us=slo_us, note=progress.note)
        progress.cached = outcome.result.hit
    document = outcome.document
    result = CompileResult(
        artifact=str(outcome.result.folder),
        cached=outcome.result.hit,
        bundle=document.bundle,
        bundle_bytes=document.bundle_bytes,
        ladder=outcome.ladder,
        rungs=document.rungs,
        dropped=document.dropped,
        tuning=document.tuning,
    )
    screen.show(result, [builds_table(outcome)], compile_notes(result))


def builds_table(outcome: CompileOutcome) -> Table:
    """Each rung with what each runtime measured, and the one that ships."""
    runtimes = sorted({build.runtime for record in outcome.document.rungs for build in record.builds})
    rows = []
    for rung, record in zip(outcome.ladder.rungs, outcome.document.rungs, strict=True):
        times = {b.runtime: "failed" if b.cpu_us is None else time_words(b.cpu_us) for b in record.builds}
        worst = max((b.max_error for b in record.builds if b.max_error is not None), default=0.0)
        rows.append(
            (
                rung.name,
                share_words(rung.accuracy),
                time_words(rung.predicted_us),
                *(times.get(runtime, "-") for runtime in runtimes),
                record.runtime,
                f"{worst:.1e}",
            )
        )
    heads = ("rung", "accuracy", "predicted", *runtimes, "ships", "error vs torch")
    return Table(f"{outcome.ladder.model} on {outcome.ladder.device}", heads, tuple(rows), words=("ships",))


def compile_notes(result: CompileResult) -> list[str]:
    """What tuning did, what was dropped, the bundle."""
    notes = []
    if result.tuning is not None:
        t = result.tuning
        notes.append(
            f"tuning: {t.kernels} kernels, {t.exact_hits} known before, {t.trials} candidates timed on the device, "
            f"{t.failures} failed, {t.seconds:.0f} s"
        )
    failed = {build.runtime: build.error for record in result.rungs for build in record.builds if build.error}
    notes += [f"{runtime} failed: {error}" for runtime, error in failed.items()]
    if result.dropped:
        notes.append(f"dropped, no faster than a more accurate rung: {', '.join(result.dropped)}")
    if result.ladder.slo_us is not None:
        notes.append(f"SLO {time_words(result.ladder.slo_us)}")
    notes.append(f"bundle {result.bundle[:12]}, {byte_words(result.bundle_bytes)}")
    notes.append(f"artifact: {result.artifact}{' (cached)' if result.cached else ''}")
    return notes
