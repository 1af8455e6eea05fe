"""`tailorbird bench --loadgen`: MLPerf LoadGen drives a served model."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from tailorbird.cli.screen import NOISY, Screen
from tailorbird.cli.serve import only_model
from tailorbird.cli.table import Table
from tailorbird.errors import GateError, UsageError
from tailorbird.types import TimingProtocol
from tailorbird.units import significant, time_words

if TYPE_CHECKING:
    from tailorbird.flow.loadgen import LoadResult


@dataclass(frozen=True, slots=True)
class LoadgenResult:
    """Result of `bench --loadgen`."""

    device: str
    model: str
    mode: str
    slo_us: float | None
    result: LoadResult
    logs: str | None
    schema: str = "tailorbird.loadgen/1"


def drive(
    screen: Screen,
    device: str,
    protocol: TimingProtocol,
    *,
    model: str | None,
    scenario: str,
    rate_hz: float,
    slo_us: float | None,
    rung: str,
    logs: Path | None,
) -> None:
    """Run LoadGen and show what it says. Exit 3 when answers were late, 5 when the run is not valid otherwise."""
    from tailorbird.flow.loadgen import Load, Scenario, require_loadgen, run_loadgen

    known: dict[str, Scenario] = {name.lower(): name for name in get_args(Scenario)}
    chosen = known.get(scenario.lower())
    if chosen is None:
        raise UsageError(f"there is no scenario {scenario!r}", fix=f"use {' or '.join(known.values())}")
    require_loadgen()
    with (
        tempfile.TemporaryDirectory(prefix="tailorbird-loadgen-") if logs is None else nullcontext(str(logs)) as folder,
        screen.workspace() as workspace,
        screen.busy(f"LoadGen {chosen} on {device}"),
        workspace.device(device) as board,
    ):
        name = model or only_model(board.deployments(), device)
        deadline = slo_us or board.deployment(name).slo_us
        if chosen == "Server" and deadline is None:
            raise GateError(
                f"{name} has no deadline", why="neither the deployment nor the command sets one", fix="give --slo"
            )
        load = Load(chosen, protocol.min_runs, protocol.min_seconds, rate_hz, deadline, rung)
        found = run_loadgen(board, name, load, Path(folder))
        result = LoadgenResult(board.name, name, protocol.mode, deadline, found, None if logs is None else str(logs))
    notes = [] if found.valid else [f"not valid: {reason}" for reason in found.reasons]
    notes.append("LoadGen's own verdict; to call figures MLPerf results is up to MLCommons and its rules")
    screen.show(result, [load_table(result)], notes)
    if found.late is not None and found.late > found.queries / 100:
        raise typer.Exit(GateError.exit_code)
    if not found.valid:
        raise typer.Exit(NOISY)


def load_table(shown: LoadgenResult) -> Table:
    """One row with the verdict and LoadGen's figures."""
    found = shown.result
    words = {"p50": found.p50_us, "p90": found.p90_us, "p99": found.p99_us, "max": found.max_us, "mean": found.mean_us}
    return Table(
        f"{shown.model} on {shown.device}, LoadGen {found.version}",
        ("scenario", "result", "queries", "failed", "late", "queries/s", *words),
        (
            (
                found.scenario,
                "VALID" if found.valid else "INVALID",
                f"{found.queries:,}",
                str(found.failed),
                "-" if found.late is None else str(found.late),
                significant(found.rate_hz),
                *("-" if value is None else time_words(value) for value in words.values()),
            ),
        ),
        words=("result",),
    )
