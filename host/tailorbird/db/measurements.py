"""The measurements table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import select

from tailorbird.db.records import FigureRecord, MeasurementKey
from tailorbird.db.session import Sessions
from tailorbird.db.tables import MeasurementRow
from tailorbird.types import Figure, Measurement, Verdict

#: SQLite accepts 32766 bound values in one statement; smaller pages also keep plans simple.
_PAGE = 500


class MeasurementTable:
    """Measurements by key. Rows are added, never changed: the newest answers, the others are history."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def add(self, key: MeasurementKey, measurement: Measurement) -> None:
        """Store one measurement."""
        self.add_all([(key, measurement)])

    def add_all(self, rows: Iterable[tuple[MeasurementKey, Measurement]]) -> None:
        """Store many in one transaction."""
        with self._sessions.begin() as session:
            session.add_all([self._row(key, measurement) for key, measurement in rows])

    def add_figure(self, key: MeasurementKey, figure: Figure) -> None:
        """Store a micro-benchmark with its value and unit."""
        row = self._row(key, figure.measurement)
        row.value, row.unit = figure.value, figure.unit
        with self._sessions.begin() as session:
            session.add(row)

    def find(self, key: MeasurementKey) -> Measurement | None:
        """The newest measurement under a key."""
        return self.find_all([key]).get(key)

    def find_all(self, keys: Iterable[MeasurementKey]) -> dict[MeasurementKey, Measurement]:
        """The newest measurement of each key that has one."""
        wanted = {(key, _sha256(key.subject)) for key in keys}
        digests = sorted({digest for _, digest in wanted})
        kept = {key for key, _ in wanted}
        found: dict[MeasurementKey, Measurement] = {}
        with self._sessions.begin() as session:
            for start in range(0, len(digests), _PAGE):
                page = MeasurementRow.subject_sha256.in_(digests[start : start + _PAGE])
                for row in session.scalars(select(MeasurementRow).where(page).order_by(MeasurementRow.id)):
                    if _key(row) in kept:
                        found[_key(row)] = _measurement(row)
        return found

    def newest(self, kind: str) -> dict[MeasurementKey, Measurement]:
        """The newest measurement under every key of a kind, in the order in which the keys were first measured."""
        query = select(MeasurementRow).where(MeasurementRow.kind == kind).order_by(MeasurementRow.id)
        with self._sessions.begin() as session:
            return {_key(row): _measurement(row) for row in session.scalars(query)}

    def figures(self, device: str, context: str | None = None) -> tuple[Figure, ...]:
        """The newest value of each micro-benchmark of a device with one thread, by name; of one context if given."""
        records = self.figure_records(device)
        return tuple(r.figure for r in records if r.threads == 1 and context in {None, r.context})

    def figure_records(self, device: str) -> tuple[FigureRecord, ...]:
        """The newest value of each micro-benchmark of a device, by name and number of threads."""
        newest: dict[tuple[str, int], FigureRecord] = {}
        query = select(MeasurementRow).where(MeasurementRow.device == device, MeasurementRow.kind == "figure")
        with self._sessions.begin() as session:
            for row in session.scalars(query.order_by(MeasurementRow.id)):
                if row.value is not None:
                    figure = Figure(row.subject, row.value, row.unit, _measurement(row))
                    newest[row.subject, row.threads] = FigureRecord(figure, row.threads, row.context, row.measured)
        return tuple(newest[key] for key in sorted(newest))

    def _row(self, key: MeasurementKey, measurement: Measurement) -> MeasurementRow:
        return MeasurementRow(
            device=key.device,
            runtime=key.runtime,
            runtime_version=key.runtime_version,
            kind=key.kind,
            subject=key.subject,
            subject_sha256=_sha256(key.subject),
            mode=key.mode,
            threads=key.threads,
            context=key.context,
            label=measurement.label,
            wall_us=list(measurement.wall_us),
            cpu_us=list(measurement.cpu_us),
            delay_us=list(measurement.delay_us),
            blocks=list(measurement.blocks),
            verdict=measurement.verdict.value,
            verdict_reason=measurement.verdict_reason,
            error=measurement.error,
            environment=dict(measurement.environment),
            value=None,
            unit="",
            measured=self._sessions.now(),
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _key(row: MeasurementRow) -> MeasurementKey:
    return MeasurementKey(
        row.device, row.runtime, row.runtime_version, row.kind, row.subject, row.mode, row.threads, row.context
    )


def _measurement(row: MeasurementRow) -> Measurement:
    return Measurement(
        label=row.label,
        wall_us=tuple(row.wall_us),
        cpu_us=tuple(row.cpu_us),
        verdict=Verdict(row.verdict),
        verdict_reason=row.verdict_reason,
        error=row.error,
        environment=tuple(sorted(row.environment.items())),
        delay_us=tuple(row.delay_us),
        blocks=tuple(row.blocks),
    )
