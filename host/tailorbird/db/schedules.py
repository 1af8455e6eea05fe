"""The schedules table: every tuning trial, good or failed."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select

from tailorbird.db.records import Schedule
from tailorbird.db.session import Sessions
from tailorbird.db.tables import ScheduleRow


class ScheduleTable:
    """Tuning trials by workload and class of device."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, schedule: Schedule) -> None:
        """Store one trial."""
        self.add_all([schedule])

    def add_all(self, schedules: Iterable[Schedule]) -> None:
        """Store trials in one transaction."""
        now = self._sessions.now()
        with self._sessions.begin() as session:
            session.add_all(
                [
                    ScheduleRow(
                        workload_hash=schedule.workload_hash,
                        device_class=schedule.device_class,
                        workload=schedule.workload,
                        trace=schedule.trace,
                        times_us=list(schedule.times_us),
                        best_us=schedule.best_us,
                        environment=dict(schedule.environment),
                        error=schedule.error,
                        recorded=now,
                    )
                    for schedule in schedules
                ]
            )

    def best(self, workload_hash: str, device_class: str, limit: int = 1) -> tuple[Schedule, ...]:
        """The fastest schedules of a workload on a class of devices, fastest first."""
        query = (
            select(ScheduleRow)
            .where(
                ScheduleRow.workload_hash == workload_hash,
                ScheduleRow.device_class == device_class,
                ScheduleRow.best_us.is_not(None),
            )
            .order_by(ScheduleRow.best_us, ScheduleRow.id)
            .limit(limit)
        )
        with self._sessions.begin() as session:
            return tuple(_schedule(row) for row in session.scalars(query))

    def workloads(self, device_class: str) -> tuple[str, ...]:
        """Hashes of the workloads that have a working schedule on a class of devices, sorted."""
        query = (
            select(ScheduleRow.workload_hash)
            .where(ScheduleRow.device_class == device_class, ScheduleRow.best_us.is_not(None))
            .distinct()
            .order_by(ScheduleRow.workload_hash)
        )
        with self._sessions.begin() as session:
            return tuple(session.scalars(query))

    def trials(self, workload_hash: str, device_class: str) -> tuple[Schedule, ...]:
        """Every trial of a workload, failures included, in the order they were made."""
        query = (
            select(ScheduleRow)
            .where(ScheduleRow.workload_hash == workload_hash, ScheduleRow.device_class == device_class)
            .order_by(ScheduleRow.id)
        )
        with self._sessions.begin() as session:
            return tuple(_schedule(row) for row in session.scalars(query))

    def count(self) -> int:
        """Number of trials stored."""
        with self._sessions.begin() as session:
            return session.scalar(select(func.count()).select_from(ScheduleRow)) or 0


def _schedule(row: ScheduleRow) -> Schedule:
    return Schedule(
        workload_hash=row.workload_hash,
        device_class=row.device_class,
        workload=row.workload,
        trace=row.trace,
        times_us=tuple(row.times_us),
        error=row.error,
        environment=tuple(sorted(row.environment.items())),
    )
