"""Store: all of the host's state behind one object."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from tailorbird.db.bundles import BundleTable
from tailorbird.db.devices import DeviceTable
from tailorbird.db.engine import open_engine
from tailorbird.db.leases import LeaseTable
from tailorbird.db.measurements import MeasurementTable
from tailorbird.db.schedules import ScheduleTable
from tailorbird.db.session import Sessions
from tailorbird.db.stages import StageTable


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Devices, measurements, schedules, bundles, leases held and cached stages, in SQLite or PostgreSQL.

    location: a file path (SQLite, the default) or a URL (postgresql://...). Opening creates or migrates the schema.
    Usable from several threads and programs. Raises EnvironmentFaultError when the database cannot be opened.
    """

    def __init__(self, location: str | Path, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._engine = open_engine(location)
        sessions = Sessions(self._engine, clock)
        self.devices = DeviceTable(sessions)
        self.measurements = MeasurementTable(sessions)
        self.schedules = ScheduleTable(sessions)
        self.bundles = BundleTable(sessions)
        self.leases = LeaseTable(sessions)
        self.stages = StageTable(sessions)

    @property
    def url(self) -> str:
        """Where the data lies, password hidden."""
        return self._engine.url.render_as_string()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def home() -> Path:
    """The host's folder: $TAILORBIRD_HOME or ~/.local/share/tailorbird."""
    configured = os.environ.get("TAILORBIRD_HOME")
    return Path(configured) if configured else Path.home() / ".local" / "share" / "tailorbird"


def default_store() -> Store:
    """The user's store: $TAILORBIRD_DATABASE, or state.db in the host's folder."""
    return Store(os.environ.get("TAILORBIRD_DATABASE") or home() / "state.db")
