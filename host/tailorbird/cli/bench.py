"""`tailorbird bench`: what a device can do, measured through its agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.loadgen import drive
from tailorbird.cli.screen import NOISY, DeviceOption, JsonOption, Screen, Table
from tailorbird.config import parse_us
from tailorbird.errors import UsageError
from tailorbird.types import QUICK, STANDARD, Figure, Verdict
from tailorbird.units import significant

_MODES = {protocol.mode: protocol for protocol in (QUICK, STANDARD)}


@dataclass(frozen=True, slots=True)
class BenchFigure:
    """One micro-benchmark: best sustained value, its unit, and whether to trust it."""

    name: str
    value: float
    unit: str
    runs: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Result of `bench`."""

    device: str
    cpu: str
    mode: str
    figures: tuple[BenchFigure, ...]
    schema: str = "tailorbird.bench/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all by default.")] = None,
    *,
    device: DeviceOption = "local",
    mode: Annotated[str, typer.Option("--mode", help="quick or standard.")] = QUICK.mode,
    loadgen: Annotated[
        bool, typer.Option("--loadgen", help="Let MLPerf LoadGen ask a served model instead (extra `loadgen`).")
    ] = False,
    scenario: Annotated[str, typer.Option("--scenario", help="LoadGen: SingleStream or Server.")] = "SingleStream",
    model: Annotated[
        str | None, typer.Option("--model", help="LoadGen: which model; the only one deployed by default.")
    ] = None,
    rung: Annotated[str, typer.Option("--rung", help="LoadGen: pin a rung instead of asking the policy.")] = "",
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="LoadGen Server: queries per second.")] = 20.0,
    slo: Annotated[
        str | None, typer.Option("--slo", help="LoadGen Server: deadline, e.g. 25ms; by default the deployment's.")
    ] = None,
    logs: Annotated[Path | None, typer.Option("--logs", metavar="DIR", help="LoadGen: keep its own logs here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the device's micro-benchmarks under a lease. Exit 5 when a figure is flagged."""
    from tailorbird.device import Devices

    screen = Screen(as_json=as_json)
    if mode not in _MODES:
        raise UsageError(f"there is no mode {mode!r}", fix=f"use {' or '.join(_MODES)}")
    if loadgen:
        slo_us = None if slo is None else parse_us(slo)
        drive(
            screen,
            device,
            _MODES[mode],
            model=model,
            scenario=scenario,
            rate_hz=rate,
            slo_us=slo_us,
            rung=rung,
            logs=logs,
        )
        return
    with screen.busy(f"Benchmarking {device}"), Devices()[device] as board:
        figures = tuple(_figure(figure) for figure in board.benchmark(names or (), _MODES[mode]))
        result = BenchResult(board.name, board.card.cpu_model, mode, figures)
    table = Table(
        f"{result.device}: {result.cpu}",
        ("benchmark", "value", "unit", "runs", "verdict", "reason"),
        tuple((f.name, significant(f.value), f.unit, str(f.runs), f.verdict, f.reason) for f in figures),
        words=("unit", "verdict", "reason"),
    )
    screen.show(result, [table])
    # `contended` leaves the on-CPU clock usable; the other verdicts do not.
    if any(f.verdict not in {Verdict.OK.value, Verdict.CONTENDED.value} for f in figures):
        raise typer.Exit(NOISY)


def _figure(figure: Figure) -> BenchFigure:
    measurement = figure.measurement
    return BenchFigure(
        figure.name,
        figure.value,
        figure.unit,
        len(measurement.cpu_us),
        measurement.verdict.value,
        measurement.verdict_reason or measurement.error,
    )
