"""Where the pipeline works: settings, the stage cache, the store of measurements, and the devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tailorbird.cache import StageCache
from tailorbird.config import Settings, load_settings
from tailorbird.db import Store
from tailorbird.device import Device, Devices

#: Receives short notes on how a running stage gets on.
Note = Callable[[str], None]


def silent(_note: str) -> None:
    """A Note that says nothing."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything a stage needs beside its input."""

    settings: Settings
    cache: StageCache
    store: Store

    @classmethod
    def open(cls, flags: Mapping[str, Any] | None = None) -> Workspace:
        """The user's workspace, with settings from file, environment and flags.

        Raises:
            UsageError: a setting is unknown or has a bad value.
            EnvironmentFaultError: the data base cannot be opened.
        """
        settings = load_settings(flags).values
        store = Store(settings.database_location)
        return cls(settings, StageCache(settings.cache_folder, index=store.stages), store)

    def device(self, name: str) -> Device:
        """Connect to a known device; `local` starts this machine's agent if need be."""
        return Devices(self.store)[name]

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
