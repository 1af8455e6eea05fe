"""The devices this user knows, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tailorbird.device.address import Address
from tailorbird.device.client import Device
from tailorbird.device.local import local
from tailorbird.device.pool import DevicePool
from tailorbird.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from tailorbird.db import DeviceRecord, Store

#: The device every machine has: the agent beside this program.
LOCAL = "local"
#: What names a class of devices instead of one: `class:rpi4`. A device's classes are its tags.
CLASS = "class:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Devices:
    """Names and addresses of devices, kept in the store: `devices["rpi4-1"]` is a connected Device, or another `kind`.

    The store is opened on first use, so that importing the package touches no file.
    """

    def __init__(self, store: Store | None = None, *, kind: type[Device] = Device) -> None:
        self._given = store
        self._kind = kind

    @property
    def _store(self) -> Store:
        if self._given is None:
            from tailorbird.db import default_store  # SQLAlchemy takes 0.3 s to import

            self._given = default_store()
        return self._given

    def add(self, name: str, address: str, tags: tuple[str, ...] = ()) -> DeviceRecord:
        """Remember a device; an existing name gets the new address. Raises UsageError for a bad name or address."""
        if not _NAME.fullmatch(name) or name == LOCAL:
            raise UsageError(
                f"{name!r} cannot name a device",
                why="names are letters, digits, dots, dashes and underscores, at most 63; `local` is this machine",
                fix="choose another name, e.g. rpi4-1",
            )
        return self._store.devices.put(name, str(Address.parse(address)), tags)

    def forget(self, name: str) -> None:
        """Remove a name. Raises DeviceError when it is unknown."""
        if not self._store.devices.remove(name):
            raise self._unknown(name)

    def get(self, name: str) -> DeviceRecord:
        """What is known of a device, without connecting. Raises DeviceError when the name is unknown."""
        record = self._store.devices.find(name)
        if record is None:
            raise self._unknown(name)
        return record

    def list(self) -> tuple[DeviceRecord, ...]:
        """All known devices by name."""
        return self._store.devices.all()

    def __getitem__(self, name: str) -> Device:
        """Connect to a device by name; "local" starts this machine's agent if need be."""
        if name == LOCAL:
            device = local(book=self._store.leases, kind=self._kind)
            self._store.devices.seen(LOCAL, str(device.address), device.card)
            return device
        record = self.get(name)
        device = self._kind.connect(record.address, book=self._store.leases)
        self._store.devices.seen(name, record.address, device.card)
        return device

    def select(self, text: str) -> tuple[str, ...]:
        """Names of the devices meant by "rpi4-1", by "rpi4-1,rpi4-2", or by "class:rpi4", all that bear this tag.

        Raises UsageError for an unknown class, DeviceError for an unknown name.
        """
        if text.startswith(CLASS):
            wanted = text.removeprefix(CLASS)
            names = tuple(record.name for record in self.list() if wanted in record.tags)
            if not names:
                classes = sorted({tag for record in self.list() for tag in record.tags})
                raise UsageError(
                    f"no device is of the class {wanted!r}",
                    why=f"known classes: {', '.join(classes) or 'none'}",
                    fix=f"add devices to it with `tailorbird devices add NAME ADDRESS --class {wanted or 'CLASS'}`",
                    reason="DEVICE_CLASS_UNKNOWN",
                )
            return names
        names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
        for name in names or (text,):
            if name not in self:
                raise self._unknown(name)
        return names

    def pool(self, text: str, **options: Any) -> DevicePool:
        """A pool of the devices that `select` finds; options: of DevicePool. Raises what `select` raises."""
        return DevicePool(self.select(text), self.__getitem__, **options)

    def __iter__(self) -> Iterator[str]:
        return iter(record.name for record in self.list())

    def __contains__(self, name: object) -> bool:
        return name == LOCAL or any(name == record.name for record in self.list())

    def _unknown(self, name: str) -> DeviceError:
        known = ", ".join((LOCAL, *(n for n in self if n != LOCAL)))
        return DeviceError(
            f"no device is called {name!r}",
            why=f"known devices: {known}",
            fix=f"add it with `tailorbird devices add {name} ADDRESS`",
            reason="DEVICE_UNKNOWN",
        )
