"""The schedule store: kernels, classes of boards, and every tuning trial, good or failed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from tailorbird.db.devices import card_of
from tailorbird.db.records import Donor, HistoryRow, StoredSchedule
from tailorbird.db.session import Sessions
from tailorbird.db.tables import DeviceClassRow, DeviceRow, ScheduleRow, WorkloadRow
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

_PAGE = 500


class ScheduleTable:
    """Tuning trials by device and by class of devices, and the kernels they are of."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def on(self, device: str) -> DeviceSchedules:
        """The trials of one device: where a tuner reads and adds its records."""
        return DeviceSchedules(self._sessions, device)

    def of_class(self, boards: DeviceClass, board: str) -> ClassSchedules:
        """The trials of a class of boards; what is added is marked as made on `board`."""
        return ClassSchedules(self._sessions, boards, board)

    def devices(self) -> tuple[str, ...]:
        """Devices that have trials, by name."""
        with self._sessions.begin() as session:
            return tuple(session.scalars(select(ScheduleRow.device).distinct().order_by(ScheduleRow.device)))

    def classes_of(self, device: str) -> tuple[str, ...]:
        """Names of the classes that a device's trials are stored under."""
        query = select(ScheduleRow.device_class).where(ScheduleRow.device == device).distinct()
        with self._sessions.begin() as session:
            return tuple(session.scalars(query.order_by(ScheduleRow.device_class)))

    def classes(self) -> tuple[DeviceClass, ...]:
        """Classes of boards that have trials, by name."""
        query = select(DeviceClassRow).order_by(DeviceClassRow.name)
        with self._sessions.begin() as session:
            return tuple(_device_class(row) for row in session.scalars(query))

    def put_workloads(self, workloads: Iterable[Workload]) -> None:
        """Remember kernels. One that is known already is replaced unless the new description lacks its module."""
        with self._sessions.begin() as session:
            for workload in workloads:
                row = session.get(WorkloadRow, workload.key)
                if row is None:
                    row = WorkloadRow(key=workload.key)
                    session.add(row)
                elif row.module and not workload.module_json:
                    continue
                row.anchor, row.pattern, row.shape = workload.anchor, workload.pattern, list(workload.shape)
                row.flops, row.name = workload.flops, workload.name
                row.module, row.compiler = workload.module_json, workload.compiler

    def workload(self, key: str) -> Workload | None:
        """A kernel by its structural hash."""
        with self._sessions.begin() as session:
            row = session.get(WorkloadRow, key)
            return None if row is None else _workload(row)

    def workloads(self) -> tuple[Workload, ...]:
        """Every kernel, by structural hash."""
        with self._sessions.begin() as session:
            return tuple(_workload(row) for row in session.scalars(select(WorkloadRow).order_by(WorkloadRow.key)))

    def donors(self, pattern: str) -> tuple[Donor, ...]:
        """The fastest scheduled trial of each kernel whose pattern begins like this, for each class of boards."""
        matching = WorkloadRow.pattern.startswith(pattern, autoescape=True)
        return self._donors(select(WorkloadRow.key).where(matching))

    def anchored(self, anchor: str) -> tuple[Donor, ...]:
        """The fastest scheduled trial of each kernel that has this main block, for each class of boards."""
        return self._donors(select(WorkloadRow.key).where(WorkloadRow.anchor == anchor)) if anchor else ()

    def _donors(self, keys: Select[Any]) -> tuple[Donor, ...]:
        fastest = (
            select(
                ScheduleRow.id.label("id"),
                func.row_number()
                .over(
                    partition_by=(ScheduleRow.device_class, ScheduleRow.workload),
                    order_by=(ScheduleRow.cpu_us, ScheduleRow.id),
                )
                .label("place"),
            )
            .where(ScheduleRow.workload.in_(keys), ScheduleRow.cpu_us.is_not(None), ScheduleRow.trace != "")
            .where(ScheduleRow.source != "default", ScheduleRow.sketch != -1)
            .subquery()
        )
        query = (
            select(ScheduleRow, WorkloadRow, DeviceClassRow)
            .join(fastest, fastest.c.id == ScheduleRow.id)
            .join(WorkloadRow, WorkloadRow.key == ScheduleRow.workload)
            .join(DeviceClassRow, DeviceClassRow.name == ScheduleRow.device_class)
            .where(fastest.c.place == 1)
            .order_by(ScheduleRow.id)
        )
        with self._sessions.begin() as session:
            rows = session.execute(query).all()
            return tuple(Donor(_workload(kernel), _device_class(boards), _record(row)) for row, kernel, boards in rows)

    def history(self, device_class: str | None = None) -> tuple[HistoryRow, ...]:
        """One row for each kernel and class of boards, slowest kernels first."""
        of_kernel = select(
            ScheduleRow.device_class,
            ScheduleRow.workload,
            func.count().label("trials"),
            func.count(ScheduleRow.cpu_us).label("good"),
            func.min(ScheduleRow.cpu_us).label("best"),
            func.max(ScheduleRow.recorded).label("newest"),
            func.max(ScheduleRow.compiler).label("compiler"),
        ).group_by(ScheduleRow.device_class, ScheduleRow.workload)
        if device_class is not None:
            of_kernel = of_kernel.where(ScheduleRow.device_class == device_class)
        kernels = of_kernel.subquery()
        query = select(kernels, WorkloadRow).outerjoin(WorkloadRow, WorkloadRow.key == kernels.c.workload)
        query = query.order_by(kernels.c.device_class, kernels.c.best.desc(), kernels.c.workload)
        with self._sessions.begin() as session:
            return tuple(
                HistoryRow(
                    device_class=row.device_class,
                    workload=row.workload,
                    name="" if kernel is None else kernel.name,
                    pattern="" if kernel is None else kernel.pattern,
                    shape=() if kernel is None else tuple(kernel.shape),
                    flops=0.0 if kernel is None else kernel.flops,
                    trials=row.trials,
                    failures=row.trials - row.good,
                    best_us=row.best,
                    compiler=row.compiler,
                    newest=row.newest,
                )
                for row, kernel in ((row, row.WorkloadRow) for row in session.execute(query))
            )

    def stored(self, device_class: str | None = None) -> Iterator[StoredSchedule]:
        """Every trial, oldest first, a page at a time."""
        last = 0
        while True:
            query = select(ScheduleRow).where(ScheduleRow.id > last).order_by(ScheduleRow.id).limit(_PAGE)
            if device_class is not None:
                query = query.where(ScheduleRow.device_class == device_class)
            with self._sessions.begin() as session:
                rows = list(session.scalars(query))
            for row in rows:
                yield StoredSchedule(_record(row), row.device, row.device_class, row.recorded)
            if len(rows) < _PAGE:
                return
            last = rows[-1].id

    def merge(self, classes: Sequence[DeviceClass], trials: Sequence[StoredSchedule]) -> int:
        """Add trials of another store in one transaction; those that are here already are left out. Returns how many.

        Two trials are the same when board, kernel, decisions, run times and error are: time is not compared, since a
        foreign database may not know when it measured.
        """
        with self._sessions.begin() as session:
            for boards in classes:
                _ensure_class(session, boards)
            known = set(_identities(session, {trial.record.workload for trial in trials}))
            fresh = {_identity(trial): trial for trial in trials if _identity(trial) not in known}
            session.add_all([_row(t.record, t.board, t.device_class, t.recorded) for t in fresh.values()])
            return len(fresh)


class DeviceSchedules:
    """Tuning trials of one device. Each is committed before `add` returns."""

    def __init__(self, sessions: Sessions, device: str) -> None:
        self._sessions = sessions
        self._device = device

    def add(self, record: ScheduleRecord) -> None:
        """Store one trial, under the class that the device's card and the record's target name."""
        with self._sessions.begin() as session:
            boards = DeviceClass.from_target(record.target)
            row = session.get(DeviceRow, self._device)
            card = None if row is None or row.card is None else card_of(row.card)
            if card is not None and (card.triple, card.llvm_cpu) == (boards.triple, boards.llvm_cpu):
                boards = DeviceClass.of_card(card, boards.threads)
            _ensure_class(session, boards)
            session.add(_row(record, self._device, boards.name, self._sessions.now()))

    def records(self) -> Sequence[ScheduleRecord]:
        """All trials of the device, oldest first."""
        query = select(ScheduleRow).where(ScheduleRow.device == self._device).order_by(ScheduleRow.id)
        with self._sessions.begin() as session:
            return tuple(_record(row) for row in session.scalars(query))


class ClassSchedules:
    """Tuning trials of one class of boards. Each is committed before `add` returns."""

    def __init__(self, sessions: Sessions, boards: DeviceClass, board: str) -> None:
        self._sessions = sessions
        self.boards = boards
        self.board = board

    def add(self, record: ScheduleRecord) -> None:
        """Store one trial."""
        with self._sessions.begin() as session:
            _ensure_class(session, self.boards)
            session.add(_row(record, self.board, self.boards.name, self._sessions.now()))

    def records(self) -> Sequence[ScheduleRecord]:
        """All trials of the class, oldest first."""
        return self._found(select(ScheduleRow).order_by(ScheduleRow.id))

    def fastest(self, workload: str, count: int = 1, compiler: str | None = None) -> tuple[ScheduleRecord, ...]:
        """The fastest trials of a kernel that have a schedule, best first; of one compiler or of any."""
        query = select(ScheduleRow).where(ScheduleRow.workload == workload, ScheduleRow.cpu_us.is_not(None))
        query = query.where(ScheduleRow.source != "default", ScheduleRow.sketch != -1)
        if compiler is not None:
            query = query.where(ScheduleRow.compiler == compiler)
        return self._found(query.order_by(ScheduleRow.cpu_us, ScheduleRow.id).limit(count))

    def default(self, workload: str) -> ScheduleRecord | None:
        """The newest timing of a kernel's plain loops."""
        plain = (ScheduleRow.source == "default") | (ScheduleRow.sketch == -1)
        query = select(ScheduleRow).where(ScheduleRow.workload == workload, ScheduleRow.cpu_us.is_not(None), plain)
        return next(iter(self._found(query.order_by(ScheduleRow.id.desc()).limit(1))), None)

    def counts(self) -> dict[str, int]:
        """Trials of each kernel, its plain loops not counted, failures included."""
        query = select(ScheduleRow.workload, func.count()).where(ScheduleRow.device_class == self.boards.name)
        query = query.where(ScheduleRow.source != "default", ScheduleRow.sketch != -1)
        with self._sessions.begin() as session:
            rows = session.execute(query.group_by(ScheduleRow.workload))
            return dict(iter(rows))

    def __len__(self) -> int:
        query = select(func.count()).select_from(ScheduleRow).where(ScheduleRow.device_class == self.boards.name)
        with self._sessions.begin() as session:
            return session.scalar(query) or 0

    def _found(self, query: Select[Any]) -> tuple[ScheduleRecord, ...]:
        with self._sessions.begin() as session:
            rows = session.scalars(query.where(ScheduleRow.device_class == self.boards.name))
            return tuple(_record(row) for row in rows)


def _ensure_class(session: Session, boards: DeviceClass) -> None:
    if session.get(DeviceClassRow, boards.name) is None:
        session.add(
            DeviceClassRow(
                name=boards.name,
                triple=boards.triple,
                llvm_cpu=boards.llvm_cpu,
                threads=boards.threads,
                cpu_model=boards.cpu_model,
                cores=boards.cores,
                isa_features=list(boards.isa_features),
                caches=list(boards.caches),
            )
        )
        session.flush()


def _identities(session: Session, workloads: set[str]) -> Iterator[tuple[object, ...]]:
    columns = (
        ScheduleRow.device_class,
        ScheduleRow.device,
        ScheduleRow.workload,
        ScheduleRow.sketch,
        ScheduleRow.decisions,
        ScheduleRow.cpu_us,
        ScheduleRow.run_us,
        ScheduleRow.error,
    )
    keys = sorted(workloads)
    for start in range(0, len(keys), _PAGE):
        for row in session.execute(select(*columns).where(ScheduleRow.workload.in_(keys[start : start + _PAGE]))):
            yield (*row[:6], json.dumps(row[6]), row[7])


def _identity(trial: StoredSchedule) -> tuple[object, ...]:
    record = trial.record
    times = json.dumps(list(record.run_us))
    where = (trial.device_class, trial.board, record.workload)
    return (*where, record.sketch, record.decisions_json, record.cpu_us, times, record.error)


def _row(record: ScheduleRecord, board: str, device_class: str, recorded: datetime) -> ScheduleRow:
    return ScheduleRow(
        device=board,
        device_class=device_class,
        target=record.target,
        workload=record.workload,
        kernel_class=record.kernel_class,
        extents=list(record.extents),
        sketch=record.sketch,
        decisions=record.decisions_json,
        trace=record.trace_json,
        cpu_us=record.cpu_us,
        run_us=list(record.run_us),
        verdict=record.verdict,
        error=record.error,
        compiler=record.compiler,
        environment=dict(record.environment),
        batch=record.batch,
        source=record.source,
        recorded=recorded,
    )


def _record(row: ScheduleRow) -> ScheduleRecord:
    return ScheduleRecord(
        target=row.target,
        workload=row.workload,
        kernel_class=row.kernel_class,
        extents=tuple(row.extents),
        sketch=row.sketch,
        decisions_json=row.decisions,
        trace_json=row.trace,
        cpu_us=row.cpu_us,
        verdict=row.verdict,
        error=row.error,
        compiler=row.compiler,
        run_us=tuple(row.run_us),
        environment=tuple(sorted(row.environment.items())),
        batch=row.batch,
        source=row.source,
    )


def _workload(row: WorkloadRow) -> Workload:
    return Workload(row.key, row.anchor, row.pattern, tuple(row.shape), row.flops, row.name, row.module, row.compiler)


def _device_class(row: DeviceClassRow) -> DeviceClass:
    return DeviceClass(
        triple=row.triple,
        llvm_cpu=row.llvm_cpu,
        threads=row.threads,
        cpu_model=row.cpu_model,
        cores=row.cores,
        isa_features=tuple(row.isa_features),
        caches=(row.caches[0], row.caches[1], row.caches[2]),
    )
