"""`tailorbird record` and `simulate`: how a device behaves, and how each policy would have done on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.cli.serve import only_model
from tailorbird.cli.table import Table
from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.units import share_words, time_words

if TYPE_CHECKING:
    from tailorbird.flow.simulate import Cell, Summary

_DEFAULT_SLO = "1.5x,2.4x,3.5x"


@dataclass(frozen=True, slots=True)
class RecordedVariant:
    """A rung of a recorded trace: medians and 90th percentile of its wall time, milliseconds."""

    name: str
    accuracy: float
    cpu_ms: float
    wall_p50_ms: float
    wall_p90_ms: float


@dataclass(frozen=True, slots=True)
class RecordResult:
    """Result of `record`."""

    device: str
    model: str
    trace: str
    slots: int
    period_s: float
    variants: tuple[RecordedVariant, ...]
    schema: str = "tailorbird.record-result/1"


@dataclass(frozen=True, slots=True)
class SimulateResult:
    """Result of `simulate`: every policy on every trace at every deadline, and each policy over all of them."""

    cells: tuple[Cell, ...]
    summary: tuple[Summary, ...]
    schema: str = "tailorbird.simulate-result/1"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("record")(record)
    app.command("simulate")(simulate)


def record(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device of `tailorbird devices`, or `local`.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write the trace.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the model; the only one deployed by default.")
    ] = None,
    duration: Annotated[str, typer.Option("--for", help="How long, e.g. 90s.")] = "90s",
    period: Annotated[str, typer.Option("--period", help="Time between slots, e.g. 100ms.")] = "100ms",
    as_json: JsonOption = False,
) -> None:
    """Measure every rung of a served model in every slot, under whatever else runs on the device."""
    from tailorbird.flow.record import Plan, write_trace
    from tailorbird.flow.record import record as run

    screen = Screen(as_json=as_json)
    plan = Plan(parse_seconds(duration), parse_seconds(period))
    if not (plan.seconds > 0.0 and plan.period_s > 0.0):
        raise UsageError("--for and --period must be above zero", fix="write them like 90s and 100ms")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {output.absolute().parent}", fix="create it, or give another --output")
    with (
        screen.workspace() as workspace,
        screen.busy(f"Recording {device}") as progress,
        workspace.device(device) as board,
    ):
        name = model or only_model(board.deployments(), device)
        trace = run(board, name, plan, progress.note)
        write_trace(trace, output)
        columns = [sorted(column) for column in zip(*trace.wall_us, strict=True)]
        variants = tuple(
            RecordedVariant(
                rung.name,
                rung.accuracy,
                rung.cpu_us / 1e3,
                walls[len(walls) // 2] / 1e3,
                walls[9 * len(walls) // 10] / 1e3,
            )
            for rung, walls in zip(trace.ladder, columns, strict=True)
        )
        result = RecordResult(board.name, name, str(output), len(trace), plan.period_s, variants)
    table = Table(
        f"{result.slots} slots in {output}",
        ("rung", "accuracy", "on-CPU", "p50", "p90"),
        tuple(
            (each.name, share_words(each.accuracy), *_ms(each.cpu_ms, each.wall_p50_ms, each.wall_p90_ms))
            for each in variants
        ),
    )
    screen.show(result, [table], [f"next: tailorbird simulate {output}"])


def simulate(
    traces: Annotated[list[Path], typer.Argument(metavar="TRACE...", help="Files written by `record`.")],
    *,
    policy: Annotated[
        str, typer.Option("--policy", help="Policies, separated by commas; static:RUNG pins one, all is every one.")
    ] = "all",
    slo: Annotated[
        str, typer.Option("--slo", help="Deadlines: 25ms, or 2.4x of the largest rung's on-CPU time.")
    ] = _DEFAULT_SLO,
    as_json: JsonOption = False,
) -> None:
    """Replay adaptation policies on recorded traces, beside what could have been reached."""
    from tailorbird.flow.simulate import parse_slos, policy_names, read_trace, summarise
    from tailorbird.flow.simulate import simulate as run

    screen = Screen(as_json=as_json)
    slos, names = parse_slos(slo), policy_names(policy)
    if not names:
        raise UsageError("no policy is named", fix="give --policy all")
    read = [(str(path), read_trace(path)) for path in traces]
    cells = tuple(run(name, trace, each, names) for name, trace in read for each in slos)
    result = SimulateResult(cells, summarise(cells))
    tables = [_cell_table(cell) for cell in cells]
    screen.show(result, [*tables, _summary_table(result.summary, len(cells))] if len(cells) > 1 else tables)


def _cell_table(cell: Cell) -> Table:
    return Table(
        f"{cell.trace}, deadline {cell.slo}" + (f" = {time_words(cell.slo_us)}" if cell.slo.endswith("x") else ""),
        ("policy", "effective accuracy", "95 %", "of segment oracle", "of best static", "late", "switches/1000"),
        tuple(
            (
                each.policy,
                share_words(each.effective_accuracy),
                "-".join(f"{100.0 * edge:.1f}" for edge in each.intervals.effective_accuracy),
                f"{each.percent_of_segment_oracle:.1f} %",
                f"{each.percent_of_best_static:.1f} %",
                share_words(each.miss_rate),
                f"{each.switches_per_1000:.1f}",
            )
            for each in cell.scores
        ),
    )


def _summary_table(summary: tuple[Summary, ...], cells: int) -> Table:
    return Table(
        f"mean of {cells} traces and deadlines",
        ("policy", "effective accuracy", "of segment oracle", "worst", "of best static", "late", "switches/1000"),
        tuple(
            (
                each.policy,
                share_words(each.effective_accuracy),
                f"{each.percent_of_segment_oracle:.1f} %",
                f"{each.worst_percent_of_segment_oracle:.1f} %",
                f"{each.percent_of_best_static:.1f} %",
                share_words(each.miss_rate),
                f"{each.switches_per_1000:.1f}",
            )
            for each in summary
        ),
    )


def _ms(*times_ms: float) -> tuple[str, ...]:
    return tuple(time_words(1e3 * each) for each in times_ms)
