"""The work folder: what each stage found, by the content of its settings."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tailorbird.cache import code_version
from tests.bench.accuracy.clock import CpuClock

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What a stage found and what it took, stages made within it included; own_seconds: without those.

    code: digest of the package's sources that it ran with.
    """

    found: dict[str, Any]
    wall_seconds: float
    cpu_seconds: float  # on the CPU clock
    own_seconds: float  # on the CPU clock
    threads: int
    code: str


class Work:
    """A folder of records, <stage>/<key>.json, and of files beside them. A record is complete or absent.

    used: records asked for so far that were no part of another stage.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used: dict[Path, Record] = {}
        self._within: list[float] = []  # for each stage that runs, what stages within it took so far

    def path(self, stage: str, settings: Settings, suffix: str) -> Path:
        """Where a file of a stage belongs; its folder exists."""
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
        key = hashlib.sha256(canonical.encode()).hexdigest()[:20]
        folder = self.folder / stage
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{key}{suffix}"

    def record(self, stage: str, settings: Settings) -> Record | None:
        """What is known of a stage with these settings."""
        path = self.path(stage, settings, ".json")
        if not path.is_file():
            return None
        data = json.loads(path.read_text())
        del data["settings"]
        found = Record(**data)
        if not self._within:
            self.used[path] = found
        return found

    def once(self, stage: str, settings: Settings, make: Callable[[], dict[str, Any]]) -> Record:
        """The record of a stage, made now if it is not there."""
        known = self.record(stage, settings)
        if known is not None:
            return known
        clock = CpuClock()
        wall, cpu = time.monotonic(), clock()
        self._within.append(0.0)
        try:
            found = make()
        finally:
            within, spent = self._within.pop(), clock() - cpu
            if self._within:
                self._within[-1] += spent
        data = {
            "found": found,
            "wall_seconds": time.monotonic() - wall,
            "cpu_seconds": spent,
            "own_seconds": spent - within,
            "threads": torch.get_num_threads(),
            "code": code_version()[:12],
        }
        write(self.path(stage, settings, ".json"), json.dumps({"settings": settings, **data}, default=str).encode())
        made = self.record(stage, settings)
        assert made is not None
        return made


def write(path: Path, content: bytes) -> None:
    """Replace a file at once, or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
