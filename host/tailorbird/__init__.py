"""Tailorbird: one trained PyTorch model, running well on every board you own, and on running well.

    import tailorbird as tb
    net = tb.elastic(model, example_inputs)
    table = tb.accuracy_table(net, validation_loader)
    board = tb.local()
    ladder = tb.search(net, accuracy=table, latency=tb.latency_model(net, board), slo="25ms")
    served = board.deploy(ladder, inputs=images)

Every name is imported when it is first used: `import tailorbird` itself loads neither torch nor a runtime.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailorbird.device import Device, Devices
    from tailorbird.errors import TailorbirdError
    from tailorbird.flow.board import Board, Boards, NetLadder, Served
    from tailorbird.flow.board import local_board as local
    from tailorbird.flow.board import search_net as search
    from tailorbird.flow.latency import latency_model
    from tailorbird.supernet import SearchSpace, SuperNet
    from tailorbird.supernet.accuracy import AccuracyTable, accuracy_table
    from tailorbird.supernet.elastic import elastic
    from tailorbird.types import Config, Ladder, Rung

    devices: Boards

#: Public name -> (module, name there).
_HOMES = {
    "AccuracyTable": ("tailorbird.supernet.accuracy", "AccuracyTable"),
    "Board": ("tailorbird.flow.board", "Board"),
    "Config": ("tailorbird.types", "Config"),
    "Device": ("tailorbird.device", "Device"),
    "Devices": ("tailorbird.device", "Devices"),
    "Ladder": ("tailorbird.types", "Ladder"),
    "NetLadder": ("tailorbird.flow.board", "NetLadder"),
    "Rung": ("tailorbird.types", "Rung"),
    "SearchSpace": ("tailorbird.supernet", "SearchSpace"),
    "Served": ("tailorbird.flow.board", "Served"),
    "SuperNet": ("tailorbird.supernet", "SuperNet"),
    "TailorbirdError": ("tailorbird.errors", "TailorbirdError"),
    "accuracy_table": ("tailorbird.supernet.accuracy", "accuracy_table"),
    "elastic": ("tailorbird.supernet", "elastic"),
    "latency_model": ("tailorbird.flow.latency", "latency_model"),
    "local": ("tailorbird.flow.board", "local_board"),
    "search": ("tailorbird.flow.board", "search_net"),
}

__all__ = [
    "AccuracyTable",
    "Board",
    "Config",
    "Device",
    "Devices",
    "Ladder",
    "NetLadder",
    "Rung",
    "SearchSpace",
    "Served",
    "SuperNet",
    "TailorbirdError",
    "accuracy_table",
    "devices",
    "elastic",
    "latency_model",
    "local",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "devices":
        value: Any = importlib.import_module("tailorbird.flow.board").Boards()
    elif name in _HOMES:
        home, own_name = _HOMES[name]
        value = getattr(importlib.import_module(home), own_name)
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
        """tailorbird.flow.board.search_net."""
        return importlib.import_module("tailorbird.flow.board").search_net

    @search.setter
    def search(self, _module: ModuleType) -> None:
        """What the import system does after importing the folder: ignored."""


sys.modules[__name__].__class__ = _Package
