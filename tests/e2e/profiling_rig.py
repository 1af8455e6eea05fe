"""A SuperNet to profile, what the store got of it while it was profiled, and things that happen meanwhile."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import tailorbird as tb
from tailorbird.device import Device


class Net(nn.Module):
    """Two convolutions in a row: a few dozen kernels between their widths."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.body = nn.Conv2d(32, 48, 3, padding=1)
        self.head = nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(torch.relu(self.stem(x)))).mean((2, 3)))


def supernet() -> tb.SuperNet:
    torch.manual_seed(0)
    return tb.elastic(Net().eval(), (torch.zeros(1, 3, 16, 16),))


class Row(NamedTuple):
    """A measurement as it was stored."""

    id: int
    kind: str
    subject: str
    verdict: str
    reason: str


def rows(database: Path, kind: str | None = None) -> list[Row]:
    """Every measurement in the store, oldest first."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute("select id, kind, subject, verdict, verdict_reason from measurements order by id")
        return [row for row in map(Row._make, found) if kind in {None, row.kind}]


@contextmanager
def when(device: Device, database: Path, *steps: tuple[str, int, Callable[[], None]]) -> Iterator[None]:
    """Act once as soon as so many measurements of a kind are stored, one step after the other.

    Looks at every report of the device's state, on a connection of its own.
    """
    left = list(steps)
    ended = threading.Event()

    def watch() -> None:
        with Device.connect(device.address) as other, closing(other.watch_status(0.1)) as reports:
            for _ in reports:
                while left and len(rows(database, left[0][0])) >= left[0][1]:
                    _, _, act = left.pop(0)
                    act()
                if not left or ended.is_set():
                    return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
    assert not left, f"{left} never came: {len(rows(database))} measurements are stored"
