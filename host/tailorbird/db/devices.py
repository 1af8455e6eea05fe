"""The devices table."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

from sqlalchemy import select

from tailorbird.db.records import DeviceRecord
from tailorbird.db.session import Sessions
from tailorbird.db.tables import DeviceRow
from tailorbird.types import Cache, DeviceCard


class DeviceTable:
    """Devices by name."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def put(self, name: str, address: str, tags: tuple[str, ...] = ()) -> DeviceRecord:
        """Add a device, or give a known one a new address and tags."""
        with self._sessions.begin() as session:
            row = session.get(DeviceRow, name)
            if row is None:
                row = DeviceRow(name=name, added=self._sessions.now())
                session.add(row)
            row.address = address
            row.tags = sorted(set(tags))
            session.flush()
            return _record(row)

    def seen(self, name: str, address: str, card: DeviceCard) -> None:
        """A device answered with this card; an unknown one is added."""
        with self._sessions.begin() as session:
            row = session.get(DeviceRow, name)
            if row is None:
                row = DeviceRow(name=name, tags=[], added=self._sessions.now())
                session.add(row)
            row.address = address
            row.card = dataclasses.asdict(card)
            row.last_seen = self._sessions.now()

    def tag(self, name: str, tags: tuple[str, ...]) -> DeviceRecord | None:
        """Replace a device's tags; None when it is unknown."""
        with self._sessions.begin() as session:
            row = session.get(DeviceRow, name)
            if row is None:
                return None
            row.tags = sorted(set(tags))
            return _record(row)

    def find(self, name: str) -> DeviceRecord | None:
        """A device by name."""
        with self._sessions.begin() as session:
            row = session.get(DeviceRow, name)
            return None if row is None else _record(row)

    def all(self) -> tuple[DeviceRecord, ...]:
        """Every device, by name."""
        with self._sessions.begin() as session:
            return tuple(_record(row) for row in session.scalars(select(DeviceRow).order_by(DeviceRow.name)))

    def remove(self, name: str) -> bool:
        """Forget a device; whether it was known."""
        with self._sessions.begin() as session:
            row = session.get(DeviceRow, name)
            if row is None:
                return False
            session.delete(row)
            return True


def _record(row: DeviceRow) -> DeviceRecord:
    last_seen: datetime | None = row.last_seen
    return DeviceRecord(
        row.name, row.address, tuple(row.tags), None if row.card is None else card_of(row.card), row.added, last_seen
    )


def card_of(data: dict[str, Any]) -> DeviceCard:
    """A device's card from its JSON; fields of a newer release are left out."""
    known = {field.name for field in dataclasses.fields(DeviceCard)}
    kept = {name: value for name, value in data.items() if name in known}
    kept["caches"] = tuple(Cache(**cache) for cache in data["caches"])
    kept["isa_features"] = tuple(data["isa_features"])
    kept["runtimes"] = tuple((name, version) for name, version in data["runtimes"])
    return DeviceCard(**kept)
