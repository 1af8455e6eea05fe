"""Tailorbird: one trained PyTorch model, running well on every board you own, and on running well.

    import tailorbird as tb
    net = tb.elastic(model, example_inputs)
    ladder = tb.search(net, accuracy=..., latency=..., slo_us=25_000)

Every name is imported when it is first used: `import tailorbird` itself loads neither torch nor a runtime.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailorbird.device import Device, Devices
    from tailorbird.device.local import local
    from tailorbird.errors import TailorbirdError
    from tailorbird.search.search import search
    from tailorbird.supernet import SearchSpace, SuperNet
    from tailorbird.supernet.accuracy_table import AccuracyTable, accuracy_table
    from tailorbird.supernet.elastic import elastic
    from tailorbird.types import Config, Ladder, Rung

    devices: Devices

_HOMES = {
    "AccuracyTable": "tailorbird.supernet.accuracy_table",
    "Config": "tailorbird.types",
    "Device": "tailorbird.device",
    "Devices": "tailorbird.device",
    "Ladder": "tailorbird.types",
    "Rung": "tailorbird.types",
    "SearchSpace": "tailorbird.supernet",
    "SuperNet": "tailorbird.supernet",
    "TailorbirdError": "tailorbird.errors",
    "accuracy_table": "tailorbird.supernet.accuracy_table",
    "elastic": "tailorbird.supernet",
    "local": "tailorbird.device",
    "search": "tailorbird.search",
}

__all__ = [
    "AccuracyTable",
    "Config",
    "Device",
    "Devices",
    "Ladder",
    "Rung",
    "SearchSpace",
    "SuperNet",
    "TailorbirdError",
    "accuracy_table",
    "devices",
    "elastic",
    "local",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "devices":
        from tailorbird.device import Devices

        value: Any = Devices()
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'tailorbird' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """`tb.search` is the function. Importing the folder of that name would put the folder's module in its place."""

    @property
    def search(self) -> Any:
        """tailorbird.search.search."""
        return importlib.import_module("tailorbird.search").search

    @search.setter
    def search(self, _module: ModuleType) -> None:
        """What the import system does after importing the folder: ignored."""


sys.modules[__name__].__class__ = _Package
