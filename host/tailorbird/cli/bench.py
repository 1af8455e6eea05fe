"""`tailorbird bench`: what a device can do, how long a module takes on it, which of two is faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.loadgen import drive
from tailorbird.cli.screen import NOISY, DeviceOption, JsonOption, Screen
from tailorbird.cli.table import Table
from tailorbird.config import parse_us
from tailorbird.errors import DeviceUnreachableError, TailorbirdError, UsageError
from tailorbird.types import KERNEL, MLPERF, QUICK, STANDARD, Figure, Measurement, TimingProtocol
from tailorbird.ui.facts import UNAVAILABLE
from tailorbird.units import significant, time_words

if TYPE_CHECKING:
    from tailorbird.device import Comparison
    from tailorbird.flow.figures import MissingFigure

_MODES = {protocol.mode: protocol for protocol in (QUICK, STANDARD, MLPERF, KERNEL)}


@dataclass(frozen=True, slots=True)
class BenchFigure:
    """One figure of the device: best sustained value, its unit, and whether to trust it. value: None if unavailable."""

    name: str
    value: float | None
    unit: str
    threads: int
    runs: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Result of `bench` without a module."""

    device: str
    cpu: str
    mode: str
    context: str
    figures: tuple[BenchFigure, ...]
    ridge_flop_per_byte: float | None = None
    schema: str = "tailorbird.bench/1"


@dataclass(frozen=True, slots=True)
class BenchTime:
    """How long a module takes, microseconds. Percentiles are None where there are too few runs to tell them."""

    name: str
    cpu_median_us: float | None
    cpu_mad_us: float | None
    wall_median_us: float | None
    wall_p90_us: float | None
    wall_p99_us: float | None
    runs: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class BenchTimes:
    """Result of `bench` with modules. ratio: first over second, with its 95 % interval, under --against."""

    device: str
    mode: str
    threads: int
    times: tuple[BenchTime, ...]
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    rounds: int | None = None
    schema: str = "tailorbird.bench-times/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("bench")(bench)


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="FILE.tflite, BUNDLE or BUNDLE:rung to time; or device figures, all of them by default."),
    ] = None,
    *,
    against: Annotated[
        str | None, typer.Option("--against", metavar="MODULE", help="Time one module in turns with this one.")
    ] = None,
    device: DeviceOption = "local",
    mode: Annotated[str, typer.Option("--mode", help="quick, standard, mlperf or kernel.")] = QUICK.mode,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")] = 1,
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
    """Time modules or measure the device's own figures, under a lease. Exit 5 when a result is flagged."""
    if mode not in _MODES:
        raise UsageError(f"there is no mode {mode!r}", fix=f"use {', '.join(_MODES)}")
    protocol = replace(_MODES[mode], threads=threads)
    screen = Screen(as_json=as_json)
    if loadgen:
        if names or against:
            raise UsageError("--loadgen asks a model that is served", fix="name it with --model, and no module")
        drive(
            screen,
            device,
            protocol,
            model=model,
            scenario=scenario,
            rate_hz=rate,
            slo_us=None if slo is None else parse_us(slo),
            rung=rung,
            logs=logs,
        )
        return
    modules = [name for name in names or () if _is_module(name)]
    if modules and len(modules) != len(names or ()):
        raise UsageError("modules and device figures cannot be mixed", fix="run bench twice")
    if against is not None:
        if len(modules) != 1:
            raise UsageError("--against compares two modules", fix="bench FILE.tflite --against OTHER.tflite")
        _compare(screen, modules[0], against, device, protocol)
    elif modules:
        _time(screen, modules, device, protocol)
    else:
        _figures(screen, names or [], device, protocol)


def _is_module(name: str) -> bool:
    return any(sign in name for sign in "/.:")


def _time(screen: Screen, modules: list[str], device: str, protocol: TimingProtocol) -> None:
    from tailorbird.flow.bench import subjects, time_all

    chosen = tuple(each for name in modules for each in subjects(name))
    with (
        screen.workspace() as workspace,
        screen.busy(f"Timing on {device}") as progress,
        workspace.device(device) as board,
    ):
        timed = time_all(board, chosen, protocol, progress.note)
        board_name = board.name
    result = BenchTimes(board_name, protocol.mode, protocol.threads, tuple(map(_bench_time, timed.measurements)))
    _show(screen, result, timed.measurements, [])
    if timed.lost is not None:
        raise timed.lost


def _compare(screen: Screen, first: str, second: str, device: str, protocol: TimingProtocol) -> None:
    from tailorbird.flow.bench import compare, subject

    pair = subject(first), subject(second)
    with (
        screen.workspace() as workspace,
        screen.busy(f"Timing in turns on {device}"),
        workspace.device(device) as board,
    ):
        found: Comparison = compare(board, *pair, protocol)
        board_name = board.name
    measured = (found.first, found.second)
    result = BenchTimes(
        board_name,
        protocol.mode,
        protocol.threads,
        tuple(map(_bench_time, measured)),
        found.ratio,
        found.low,
        found.high,
        found.rounds,
    )
    _show(screen, result, measured, [found.words])


def _figures(screen: Screen, names: list[str], device: str, protocol: TimingProtocol) -> None:
    from tailorbird.flow.figures import measure_figures, ridge

    found: list[Figure | MissingFigure] = []
    lost: TailorbirdError | None = None
    with (
        screen.workspace() as workspace,
        screen.busy(f"Benchmarking {device}") as progress,
        workspace.device(device) as board,
    ):
        card, name, context = board.card, board.name, board.context
        try:
            found.extend(measure_figures(workspace.store, board, names, protocol, note=progress.note))
        except DeviceUnreachableError as error:
            if not found:
                raise
            lost = error
    figures = [figure for figure in found if isinstance(figure, Figure)]
    edge = ridge(figure for figure in figures if threads_of(figure) == 1)
    result = BenchResult(name, card.cpu_model, protocol.mode, context, tuple(map(_bench_figure, found)), edge)
    table = Table(
        f"{result.device}: {result.cpu}",
        ("benchmark", "threads", "value", "unit", "runs", "verdict", "reason"),
        tuple(
            (
                f.name,
                str(f.threads),
                UNAVAILABLE if f.value is None else significant(f.value),
                f.unit,
                str(f.runs),
                f.verdict,
                f.reason,
            )
            for f in result.figures
        ),
        words=("unit", "verdict", "reason"),
    )
    notes = [] if edge is None else [f"ridge: {significant(edge)} FLOP/byte with one thread"]
    screen.show(result, [table], notes)
    if lost is not None:
        raise lost
    if any(figure.measurement.verdict.spoils_cpu_time for figure in figures):
        raise typer.Exit(NOISY)


def threads_of(figure: Figure) -> int:
    """Threads a figure was measured with."""
    return int(figure.measurement.noted("threads") or 1)


def _bench_figure(figure: Figure | MissingFigure) -> BenchFigure:
    if not isinstance(figure, Figure):
        return BenchFigure(figure.name, None, "", 1, 0, "", figure.why)
    m = figure.measurement
    return BenchFigure(
        figure.name, figure.value, figure.unit, threads_of(figure), len(m.cpu_us), m.verdict.value, _reasons(m)
    )


def _show(screen: Screen, result: BenchTimes, measured: tuple[Measurement, ...], notes: list[str]) -> None:
    table = Table(
        f"{result.device}: {result.mode}, {result.threads} thread{'s' if result.threads > 1 else ''}",
        ("module", "CPU median", "MAD", "wall median", "p90", "p99", "runs", "verdict", "reason"),
        tuple(
            (
                t.name,
                *map(_time_cell, (t.cpu_median_us, t.cpu_mad_us, t.wall_median_us, t.wall_p90_us, t.wall_p99_us)),
                str(t.runs),
                t.verdict,
                t.reason,
            )
            for t in result.times
        ),
        words=("verdict", "reason"),
    )
    screen.show(result, [table], notes)
    if any(m.error or m.verdict.spoils_cpu_time for m in measured):
        raise typer.Exit(NOISY)


def _time_cell(us: float | None) -> str:
    return "-" if us is None else time_words(us)


def _bench_time(measurement: Measurement) -> BenchTime:
    m = measurement
    if not m.ok:
        return BenchTime(m.label, None, None, None, None, None, 0, "failed", m.error)
    return BenchTime(
        m.label,
        m.cpu_median_us,
        m.cpu_mad_us,
        m.wall_median_us,
        m.wall_p90_us,
        m.wall_p99_us,
        len(m.cpu_us),
        m.verdict.value,
        _reasons(m),
    )


def _reasons(measurement: Measurement) -> str:
    short = measurement.cut_short
    parts = (measurement.verdict_reason or measurement.error, f"stopped after {short}" if short else "")
    return "; ".join(part for part in parts if part)
