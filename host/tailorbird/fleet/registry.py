"""The fleet: which devices exist, what they are tagged with, which of them answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tailorbird.db import DeviceRecord, Store
from tailorbird.device import Device
from tailorbird.errors import DeviceError, UsageError
from tailorbird.types import AgentStatus

_DIALS = 16


@dataclass(frozen=True, slots=True)
class Presence:
    """A device and its status, or why it did not answer."""

    record: DeviceRecord
    status: AgentStatus | None
    problem: str = ""


class Fleet:
    """The devices in a store, by tag."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def tag(self, name: str, *tags: str) -> DeviceRecord:
        """Add tags to a device. Raises DeviceError when it is unknown, UsageError for a bad tag."""
        if any(not tag.strip() or "," in tag for tag in tags):
            raise UsageError("a tag must not be empty or hold a comma", fix="use tags such as kitchen or rpi4")
        return self._retag(name, lambda now: now | set(tags))

    def untag(self, name: str, *tags: str) -> DeviceRecord:
        """Remove tags from a device; those it does not have are no error. Raises DeviceError when it is unknown."""
        return self._retag(name, lambda now: now - set(tags))

    def _retag(self, name: str, change: Callable[[set[str]], set[str]]) -> DeviceRecord:
        record = self._store.devices.find(name)
        changed = record and self._store.devices.tag(name, tuple(change(set(record.tags))))
        if changed is None:
            raise DeviceError(f"no device is called {name!r}", fix="see `tailorbird devices`", reason="DEVICE_UNKNOWN")
        return changed

    def select(self, *tags: str) -> tuple[DeviceRecord, ...]:
        """Devices that have all of the tags, by name; all devices without tags."""
        return tuple(record for record in self._store.devices.all() if set(tags) <= set(record.tags))

    def survey(self, *tags: str, timeout_s: float = 3.0) -> tuple[Presence, ...]:
        """Ask the selected devices for their status, several at a time; by name."""
        records = self.select(*tags)
        if not records:
            return ()
        with ThreadPoolExecutor(min(_DIALS, len(records)), thread_name_prefix="survey") as pool:
            return tuple(pool.map(lambda record: self._look(record, timeout_s), records))

    def _look(self, record: DeviceRecord, timeout_s: float) -> Presence:
        try:
            with Device.connect(record.address, timeout_s=timeout_s) as device:
                status = device.status()
        except (DeviceError, UsageError) as error:
            return Presence(record, None, error.why or error.what)
        self._store.devices.seen(record.name, record.address, status.card)
        return Presence(record, status)
