"""`tailorbird tune`: a ladder's kernels on devices; what the schedule store knows, and schedules in and out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen, ThreadsOption
from tailorbird.cli.table import Table
from tailorbird.cli.tuning import kernels_table
from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.units import time_words

if TYPE_CHECKING:
    from tailorbird.db import HistoryRow
    from tailorbird.flow.tune import TunedKernel, TuningDocument
    from tailorbird.tune.exchange import Damage, Imported

_SHOWN_DAMAGE = 5
_BUDGET = "5m"


@dataclass(frozen=True, slots=True)
class TuneResult:
    """Result of `tune LADDER`; as tuning.json, and where that is."""

    artifact: str
    model: str
    devices: tuple[str, ...]
    device_class: str
    kernels: tuple[TunedKernel, ...]
    trials: int
    failures: tuple[tuple[str, int], ...]
    seconds: float
    total_us: float
    untuned_us: float
    exhausted: bool
    refused: tuple[tuple[str, str], ...]
    schema: str = "tailorbird.tune/1"


@dataclass(frozen=True, slots=True)
class HistoryKernel:
    """A kernel on a class of boards. best_us: median microseconds of its fastest schedule, null when all failed."""

    device_class: str
    workload: str
    name: str
    pattern: str
    shape: tuple[int, ...]
    trials: int
    failures: int
    best_us: float | None
    gflops: float | None
    compiler: str
    newest: str


@dataclass(frozen=True, slots=True)
class HistoryResult:
    """Result of `tune --history`."""

    kernels: tuple[HistoryKernel, ...]
    trials: int
    schema: str = "tailorbird.tune-history/1"


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Result of `tune --export`."""

    file: str
    trials: int
    schema: str = "tailorbird.tune-export/1"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Result of `tune --import`. damaged: lines that were left out."""

    path: str
    read: int
    added: int
    workloads: int
    damaged: tuple[Damage, ...]
    compilers: tuple[str, ...]
    schema: str = "tailorbird.tune-import/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("tune")(tune)


def tune(
    ladder: Annotated[Path | None, typer.Argument(help="Artifact folder of `search`.")] = None,
    *,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            "-d",
            metavar="NAMES",
            help="Devices to tune on: NAME, NAME,NAME or class:NAME.  [default: local]",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Most schedules to try.")] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help=f"Time to tune for, e.g. 20m.  [default: {_BUDGET}]"),
    ] = None,
    transfer_from: Annotated[
        str | None,
        typer.Option("--transfer-from", metavar="DEVICE", help="Borrow schedules of this device alone."),
    ] = None,
    threads: ThreadsOption = None,
    history: Annotated[bool, typer.Option("--history", help="List the kernels that have schedules.")] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="Write all trials as JSON lines; FILE.xz packs them."),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option("--import", metavar="PATH", help="Add trials: a file of --export, or a MetaSchedule database."),
    ] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Only this class of boards, as --history names it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find fast schedules for a ladder's kernels on the devices themselves; list, write or add those measured so far.

    Each kernel takes what was measured before on these boards, then what like kernels lend it, then a search goes on
    where most is to be won. It may be stopped at any time: what was measured is kept, and `compile` builds with it.
    """
    wanted = [ladder is not None, history, export is not None, import_ is not None]
    if sum(wanted) != 1:
        raise UsageError(
            "tune needs one of LADDER, --history, --export FILE and --import PATH",
            why=f"{sum(wanted)} of them were given",
            fix="give the artifact folder that `tailorbird search` printed, or one of the options",
        )
    screen = Screen(as_json=as_json)
    if ladder is not None:
        if device_class is not None:
            raise UsageError("--class does not go with LADDER", fix=f"use --device class:{device_class}")
        _tune(screen, ladder, device or "local", trials, budget, transfer_from, threads)
        return
    if any(option is not None for option in (device, trials, budget, transfer_from, threads)):
        raise UsageError("--device, --trials, --budget, --transfer-from and --threads go with LADDER alone")
    if history:
        _history(screen, device_class)
    elif export is not None:
        _export(screen, export, device_class)
    elif import_ is not None:
        if device_class is not None:
            raise UsageError("--class does not go with --import", why="a file says itself what its boards are")
        _import(screen, import_)


def _tune(
    screen: Screen,
    ladder: Path,
    device: str,
    trials: int | None,
    budget: str | None,
    transfer_from: str | None,
    threads: int | None,
) -> None:
    budget_s = parse_seconds(budget or _BUDGET)
    from tailorbird.flow.network import open_network
    from tailorbird.flow.search import open_search
    from tailorbird.flow.tune import tune_ladder

    with screen.workspace(threads=threads) as workspace, screen.tuning(f"Tuning on {device}") as view:
        found = open_search(open_network(ladder))
        outcome = tune_ladder(
            workspace,
            found,
            device,
            budget_s=budget_s,
            most_trials=trials,
            transfer_from=transfer_from,
            on_progress=view.update,
            note=view.note,
        )
    document = outcome.document
    fields = {name: getattr(document, name) for name in document.__dataclass_fields__ if name != "schema"}
    result = TuneResult(artifact=str(outcome.result.folder), **fields)
    screen.show(result, [kernels_table(document.kernels, document.model)], _tuning_notes(document, result.artifact))


def _tuning_notes(document: TuningDocument, artifact: str) -> Sequence[str]:
    gain = f", {time_words(document.untuned_us)} without schedules" if document.untuned_us else ""
    where = ", ".join(document.devices)
    notes = [
        f"{document.trials} candidates in {document.seconds:.0f} s on {where}",
        f"one pass over all rungs' kernels: {time_words(document.total_us)}{gain}",
    ]
    if document.failures:
        failed = ", ".join(f"{count} {kind}" for kind, count in document.failures)
        notes.append(f"failed: {failed}")
    if document.exhausted:
        notes.append("stopped: no further batch promised 0.2 % of the whole per minute")
    notes += [f"{name} took no part: {why}" for name, why in document.refused]
    notes.append(f"artifact: {artifact}")
    return notes


def _history(screen: Screen, device_class: str | None) -> None:
    with screen.workspace() as workspace:
        rows = workspace.store.schedules.history(device_class)
    kernels = tuple(_kernel(row) for row in rows)
    result = HistoryResult(kernels, sum(row.trials for row in rows))
    columns = ("class", "kernel", "shape", "best", "GFLOP/s", "trials", "failed", "compiler")
    table = Table("Schedules", columns, tuple(_cells(kernel) for kernel in kernels), words=("kernel", "compiler"))
    note = f"{result.trials:,} trials of {len(kernels)} kernels" if kernels else "no schedules have been measured yet"
    screen.show(result, [table] if kernels else [], [note])


def _export(screen: Screen, path: Path, device_class: str | None) -> None:
    from tailorbird.tune.exchange import export_schedules

    with screen.workspace() as workspace, screen.busy(f"Writing {path}"):
        count = export_schedules(workspace.store.schedules, path, device_class)
    screen.show(ExportResult(str(path), count), notes=[f"{count:,} trials written to {path}"])


def _import(screen: Screen, path: Path) -> None:
    from tailorbird.tune.exchange import import_schedules
    from tailorbird.tune.foreign import import_metaschedule

    with screen.workspace() as workspace, screen.busy(f"Reading {path}"):
        store = workspace.store.schedules
        outcome = import_metaschedule(store, path) if path.is_dir() else import_schedules(store, path)
    result = ImportResult(str(path), outcome.read, outcome.added, outcome.workloads, outcome.damaged, outcome.compilers)
    screen.show(result, notes=_import_notes(outcome))
    if outcome.damaged:
        raise typer.Exit(1)


def _import_notes(outcome: Imported) -> Sequence[str]:
    from tailorbird.compile.tvm.target import compiler

    known = outcome.read - outcome.added
    notes = [f"{outcome.added:,} trials of {outcome.workloads} kernels added, {known:,} were here already"]
    notes += [f"{damage.file}:{damage.line} left out: {damage.why}" for damage in outcome.damaged[:_SHOWN_DAMAGE]]
    more = len(outcome.damaged) - _SHOWN_DAMAGE
    if more > 0:
        notes.append(f"and {more} lines more were left out; --json lists them all")
    foreign = [name for name in outcome.compilers if name != compiler()]
    if foreign:
        notes.append(f"made by {', '.join(foreign)}, not {compiler()}: each is measured once more before it is used")
    return notes


def _kernel(row: HistoryRow) -> HistoryKernel:
    gflops = row.flops / row.best_us / 1e3 if row.best_us else None
    return HistoryKernel(
        device_class=row.device_class,
        workload=row.workload,
        name=row.name,
        pattern=row.pattern,
        shape=row.shape,
        trials=row.trials,
        failures=row.failures,
        best_us=row.best_us,
        gflops=gflops,
        compiler=row.compiler,
        newest=row.newest.isoformat(),
    )


def _cells(kernel: HistoryKernel) -> tuple[str, ...]:
    return (
        kernel.device_class,
        kernel.name or kernel.pattern.partition(" ")[2] or kernel.workload,
        "x".join(str(extent) for extent in kernel.shape) or "-",
        "-" if kernel.best_us is None else time_words(kernel.best_us),
        "-" if kernel.gflops is None else f"{kernel.gflops:.1f}",
        str(kernel.trials),
        str(kernel.failures),
        kernel.compiler,
    )
