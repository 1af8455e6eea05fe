"""Schedules as a file: one JSON document per line, written whole or not at all, read as far as it can be read.

    {"schema": "tailorbird.device-class/1", "device_class": {...}}
    {"schema": "tailorbird.workload/1", "workload": {...}}
    {"schema": "tailorbird.schedule/1", "record": {...}, "board": ..., "device_class": ..., "recorded": ...}

A line that cannot be read costs itself. Traces and decisions are JSON text inside, so a file outlives the TVM release
that measured it.
"""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from tailorbird.db import ScheduleTable, StoredSchedule
from tailorbird.document import DocumentError, dump_document, parse_document
from tailorbird.errors import EnvironmentFaultError, MissingFileError, UsageError
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

_CLASS, _WORKLOAD, _TRIAL = "tailorbird.device-class/1", "tailorbird.workload/1", "tailorbird.schedule/1"
_PAGE = 500


@dataclass(frozen=True, slots=True)
class ClassLine:
    """A class of boards."""

    device_class: DeviceClass
    schema: str = _CLASS


@dataclass(frozen=True, slots=True)
class WorkloadLine:
    """A kernel."""

    workload: Workload
    schema: str = _WORKLOAD


@dataclass(frozen=True, slots=True)
class TrialLine:
    """A trial. recorded: ISO 8601 with a zone."""

    record: ScheduleRecord
    board: str
    device_class: str
    recorded: str
    schema: str = _TRIAL


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that was left out, and why. Lines count from 1."""

    file: str
    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """Outcome of an import. read: trials that could be read; added: those that were new; compilers: who made them."""

    read: int
    added: int
    workloads: int
    damaged: tuple[Damage, ...]
    compilers: tuple[str, ...]


def export_schedules(store: ScheduleTable, path: Path, device_class: str | None = None) -> int:
    """Write all trials, or those of one class of boards, with their kernels; returns how many.

    A path that ends in .xz is compressed. Until the file is complete the old one stays.
    Raises EnvironmentFaultError when it cannot be written.
    """
    try:
        with _replacing(path) as stream:
            return _write(store, stream, device_class)
    except OSError as error:
        raise EnvironmentFaultError(
            f"cannot write the schedules to {path}",
            why=f"{error.strerror or error}; what was there before is unchanged",
            fix="choose a folder that is writable and has space",
        ) from error


def import_schedules(store: ScheduleTable, path: Path) -> Imported:
    """Add the trials of an exported file, page by page; what is here already is left out, so it can be repeated.

    Raises:
        MissingFileError: there is no such file.
        UsageError: no line of it is of this format.
        EnvironmentFaultError: the database does not take the data; pages before are in it.
    """
    trials: list[StoredSchedule] = []
    classes: dict[str, DeviceClass] = {}
    workloads: dict[str, Workload] = {}
    damaged = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            _sort(line, trials, classes, workloads)
        except (DocumentError, ValueError) as error:
            damaged.append(Damage(str(path), number, str(error)))
    if not (trials or workloads):
        first = damaged[0].why if damaged else "it is empty"
        raise UsageError(f"{path} holds no schedules", why=f"line 1: {first}", fix="give a file of `tune --export`")
    store.put_workloads(workloads.values())
    added = merge_pages(store, list(classes.values()), trials)
    compilers = sorted({trial.record.compiler for trial in trials})
    return Imported(len(trials), added, len(workloads), tuple(damaged), tuple(compilers))


def merge_pages(store: ScheduleTable, classes: list[DeviceClass], trials: list[StoredSchedule]) -> int:
    """Add trials in transactions of moderate size; returns how many were new."""
    pages = (trials[start : start + _PAGE] for start in range(0, len(trials), _PAGE))
    return sum(store.merge(classes, page) for page in pages)


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a text file, compressed if its name ends in .xz. Raises MissingFileError or UsageError."""
    if not path.is_file():
        raise MissingFileError(f"there is no file {path}", fix="check the path")
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as stream:
            yield from stream
    except (lzma.LZMAError, UnicodeDecodeError, EOFError) as error:
        raise UsageError(f"{path} cannot be read", why=str(error), fix="fetch the file again") from error


def _sort(
    line: str, trials: list[StoredSchedule], classes: dict[str, DeviceClass], workloads: dict[str, Workload]
) -> None:
    schema = _schema(line)
    if schema == _CLASS:
        boards = parse_document(ClassLine, line, schema=_CLASS).device_class
        classes[boards.name] = boards
    elif schema == _WORKLOAD:
        workload = parse_document(WorkloadLine, line, schema=_WORKLOAD).workload
        workloads[workload.key] = workload
    else:
        trial = parse_document(TrialLine, line, schema=_TRIAL)
        if trial.device_class not in classes:
            raise DocumentError(f"no line before it describes the device class {trial.device_class!r}")
        for text in (trial.record.trace_json or "[]", trial.record.decisions_json):
            json.loads(text)
        when = datetime.fromisoformat(trial.recorded)
        trials.append(StoredSchedule(trial.record, trial.board, trial.device_class, when))


def _schema(line: str) -> Any:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error}") from error
    return data.get("schema") if isinstance(data, dict) else None


def _write(store: ScheduleTable, stream: IO[str], device_class: str | None) -> int:
    wanted = [boards for boards in store.classes() if device_class in {None, boards.name}]
    if device_class is not None and not wanted:
        known = ", ".join(boards.name for boards in store.classes()) or "none"
        raise UsageError(f"there are no schedules of {device_class!r}", why=f"classes here: {known}")
    for boards in wanted:
        stream.write(dump_document(ClassLine(boards)) + "\n")
    for workload in store.workloads():
        stream.write(dump_document(WorkloadLine(workload)) + "\n")
    count = 0
    for trial in store.stored(device_class):
        line = TrialLine(trial.record, trial.board, trial.device_class, trial.recorded.isoformat())
        stream.write(dump_document(line) + "\n")
        count += 1
    return count


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    """A new file that takes the place of the old one when it is complete and on the disk."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with _packing(raw) if path.suffix == ".xz" else contextlib.nullcontext(raw) as sink:
                stream = io.TextIOWrapper(sink, encoding="utf-8", write_through=True)
                yield stream
                stream.detach()
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _packing(raw: IO[bytes]) -> lzma.LZMAFile:
    return lzma.LZMAFile(raw, "wb", preset=3)
