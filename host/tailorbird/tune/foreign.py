"""Read the databases that MetaSchedule itself writes: database_workload.json and database_tuning_record.json.

Modules are loaded in a worker process, since a damaged one, or one of another TVM release, may end the process that
reads it. Traces are cut before their postprocessing without TVM, so the records of a kernel whose module cannot be
loaded are lost only because nothing says any more what kernel they are of.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.db import ScheduleTable, StoredSchedule
from tailorbird.errors import MissingFileError, UsageError
from tailorbird.tune.builders import Builders
from tailorbird.tune.exchange import Damage, Imported, merge_pages, read_lines
from tailorbird.tune.space import FOREIGN_SKETCH
from tailorbird.tune.traces import cut, decisions_in
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

_WORKLOADS, _RECORDS = "database_workload.json", "database_tuning_record.json"


def is_metaschedule(path: Path) -> bool:
    """Whether a folder holds a database of MetaSchedule."""
    return path.is_dir() and _file(path, _RECORDS) is not None


def import_metaschedule(store: ScheduleTable, folder: Path, *, board: str = "imported") -> Imported:
    """Add the records of a MetaSchedule database, whose files may be compressed (.xz); repeating it adds nothing.

    Raises:
        MissingFileError: the folder lacks one of the two files.
        UsageError: none of its kernels can be loaded.
        EnvironmentFaultError: the database does not take the data.
    """
    workload_file, record_file = (_required(folder, name) for name in (_WORKLOADS, _RECORDS))
    damaged: list[Damage] = []
    kernels = _kernels(workload_file, damaged)
    if not kernels:
        why = damaged[0].why if damaged else "it is empty"
        raise UsageError(
            f"no kernel of {workload_file} can be loaded", why=why, fix="use the TVM release that wrote it"
        )
    when = datetime.fromtimestamp(record_file.stat().st_mtime, UTC)
    trials: list[StoredSchedule] = []
    classes: dict[str, DeviceClass] = {}
    for number, line in enumerate(read_lines(record_file), 1):
        try:
            record, boards = _record(json.loads(line), kernels, f"{folder.name}/{number}")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            damaged.append(Damage(str(record_file), number, f"{type(error).__name__}: {error}"))
            continue
        classes[boards.name] = boards
        trials.append(StoredSchedule(record, board, boards.name, when))
    store.put_workloads(kernels.values())
    added = merge_pages(store, list(classes.values()), trials)
    compilers = tuple(sorted({trial.record.compiler for trial in trials}))
    return Imported(len(trials), added, len(kernels), tuple(damaged), compilers)


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.xz") if path.is_file()), None)


def _required(folder: Path, name: str) -> Path:
    path = _file(folder, name)
    if path is None:
        raise MissingFileError(
            f"there is no {name} in {folder}",
            why="a MetaSchedule database is the two files database_workload.json and database_tuning_record.json",
        )
    return path


def _kernels(path: Path, damaged: list[Damage]) -> dict[int, Workload]:
    """Kernels by the line that holds them, as records count: from 0."""
    here = CompileTarget(f"{platform.machine()}-linux-gnu", "")  # any target will do: nothing is compiled
    kernels: dict[int, Workload] = {}
    with Builders(here, workers=1) as builders:
        for number, line in enumerate(read_lines(path)):
            output = builders.new_file(".json")
            try:
                request = {"do": "load", "workload": json.loads(line), "output": str(output)}
            except ValueError as error:
                damaged.append(Damage(str(path), number + 1, f"not JSON: {error}"))
                continue
            reply = builders.submit(request).result()
            if "error" in reply:
                damaged.append(Damage(str(path), number + 1, reply["error"]))
                continue
            reply["shape"] = tuple(reply["shape"])
            reply["module_json"] = output.read_text(encoding="utf-8")
            kernels[number] = Workload(**reply)
    return kernels


def _record(data: Any, kernels: dict[int, Workload], batch: str) -> tuple[ScheduleRecord, DeviceClass]:
    index, (trace, seconds, target, _) = data
    if index not in kernels:
        raise KeyError(f"its kernel, line {index + 1} of the workloads, could not be loaded")
    kernel = kernels[index]
    triple = target.get("mtriple") or f"{platform.machine()}-linux-gnu"
    boards = DeviceClass(triple, target.get("mcpu", ""), int(target.get("num-cores", 1)))
    run_us = tuple(float(time) * 1e6 for time in seconds or ())
    good = bool(run_us) and max(run_us) < _FAILED_US
    text = cut(trace)
    record = ScheduleRecord(
        target=f"{boards.triple} {boards.llvm_cpu or 'generic'} threads={boards.threads}",
        workload=kernel.key,
        kernel_class="",
        extents=kernel.shape,
        sketch=FOREIGN_SKETCH,
        decisions_json=json.dumps(decisions_in(text)),
        trace_json=text,
        cpu_us=sorted(run_us)[len(run_us) // 2] if good else None,
        error="" if good else "it failed to build or to run",
        compiler=kernel.compiler,
        run_us=run_us if good else (),
        batch=batch,
        source="import",
    )
    return record, boards


_FAILED_US = 1e15  # MetaSchedule stores failures as 1e10 seconds
