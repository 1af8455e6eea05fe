"""Where schedule records live. The tuner reads all records of a device once and adds each new one at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tailorbird.types.schedule import ScheduleRecord


class RecordSink(Protocol):
    """The records of one device. Records of another device would mislead: a look-up does not see the CPU."""

    def add(self, record: ScheduleRecord) -> None:
        """Persist one record before returning: a crash of the tuner loses nothing that was measured."""

    def records(self) -> Sequence[ScheduleRecord]:
        """All records of the device, oldest first."""
        ...


class MemoryRecords:
    """Records kept in memory, for tests and one-off runs."""

    def __init__(self, records: Sequence[ScheduleRecord] = ()) -> None:
        self._records = list(records)

    def add(self, record: ScheduleRecord) -> None:
        """Append the record."""
        self._records.append(record)

    def records(self) -> Sequence[ScheduleRecord]:
        """All records, oldest first."""
        return tuple(self._records)
