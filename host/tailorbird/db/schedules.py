"""The schedules table: every tuning trial, good or failed."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from tailorbird.db.session import Sessions
from tailorbird.db.tables import ScheduleRow
from tailorbird.types.schedule import ScheduleRecord


class ScheduleTable:
    """Tuning trials, by device."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def on(self, device: str) -> DeviceSchedules:
        """The trials of one device: where a tuner reads and adds its records."""
        return DeviceSchedules(self._sessions, device)

    def devices(self) -> tuple[str, ...]:
        """Devices that have trials, by name."""
        with self._sessions.begin() as session:
            return tuple(session.scalars(select(ScheduleRow.device).distinct().order_by(ScheduleRow.device)))


class DeviceSchedules:
    """Tuning trials of one device. Each is committed before `add` returns."""

    def __init__(self, sessions: Sessions, device: str) -> None:
        self._sessions = sessions
        self._device = device

    def add(self, record: ScheduleRecord) -> None:
        """Store one trial."""
        with self._sessions.begin() as session:
            session.add(
                ScheduleRow(
                    device=self._device,
                    target=record.target,
                    workload=record.workload,
                    kernel_class=record.kernel_class,
                    extents=list(record.extents),
                    sketch=record.sketch,
                    decisions=record.decisions_json,
                    trace=record.trace_json,
                    cpu_us=record.cpu_us,
                    verdict=record.verdict,
                    error=record.error,
                    compiler=record.compiler,
                    recorded=self._sessions.now(),
                )
            )

    def records(self) -> Sequence[ScheduleRecord]:
        """All trials of the device, oldest first."""
        query = select(ScheduleRow).where(ScheduleRow.device == self._device).order_by(ScheduleRow.id)
        with self._sessions.begin() as session:
            return tuple(_record(row) for row in session.scalars(query))


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
    )
