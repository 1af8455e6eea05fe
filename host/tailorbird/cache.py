"""The stage cache: the result of a stage, found again by everything it was made from.

A key is the SHA-256 of the stage's name, its inputs as canonical JSON, and the version of the code. The result is a
folder <root>/<stage>/<key>/ with the stage's files and stage.json, which names each file with its digest and says what
went in and how long it took. A folder appears by rename, so it is complete or absent; a changed file means a rebuild.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tailorbird

_RECORD = "stage.json"
#: Folders whose code cannot change what a stage computes.
_SURFACES = frozenset({"ui", "cli", "demo"})


class StageIndex(Protocol):
    """Where built stages are listed (see db.Store.stages)."""

    def stage_built(self, key: str, stage: str, folder: str, seconds: float) -> None:
        """A stage result was put in the cache."""


@dataclass(frozen=True, slots=True)
class StageResult:
    """A stage's artifact: its folder, whether it was there before, the seconds it took to build."""

    stage: str
    key: str
    folder: Path
    hit: bool
    seconds: float


def sha256_of(content: bytes | Path) -> str:
    """Lower-case hex digest of bytes or of a file's content. Raises OSError when the file cannot be read."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@functools.cache
def code_version() -> str:
    """Digest of the package's own sources: a cached result must not outlive the code that made it."""
    digest = hashlib.sha256()
    for root in sorted(Path(path) for path in tailorbird.__path__):
        for source in sorted(root.rglob("*.py")):
            name = source.relative_to(root)
            if name.parts[0] not in _SURFACES:
                digest.update(f"{name}\0".encode() + source.read_bytes() + b"\0")
    return digest.hexdigest()


class StageCache:
    """Content-addressed results of stages under one folder. Safe for several programs at once."""

    def __init__(
        self,
        root: Path,
        *,
        index: StageIndex | None = None,
        version: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """version: of the code, by default the digest of the package's sources."""
        self._root = root
        self._index = index
        self._version = version
        self._clock = clock

    def key(self, stage: str, inputs: Mapping[str, Any]) -> str:
        """Key of a stage's result. Inputs are JSON values; give files by digest. Raises TypeError for other values."""
        version = self._version if self._version is not None else code_version()
        identity = {"stage": stage, "inputs": dict(inputs), "code": version}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def find(self, stage: str, inputs: Mapping[str, Any]) -> StageResult | None:
        """An intact earlier result, None when there is none."""
        key = self.key(stage, inputs)
        folder = self._root / stage / key
        try:
            record = json.loads((folder / _RECORD).read_bytes())
            if all(sha256_of(folder / name) == digest for name, digest in record["files"].items()):
                return StageResult(stage, key, folder, hit=True, seconds=float(record["seconds"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # absent, damaged or foreign: build it again
        return None

    def run(self, stage: str, inputs: Mapping[str, Any], build: Callable[[Path], None]) -> StageResult:
        """The result of a stage: found, or made by `build`, which writes its files into the folder it is given.

        What `build` raises passes through and leaves nothing behind.
        """
        found = self.find(stage, inputs)
        if found is not None:
            return found
        key = self.key(stage, inputs)
        folder = self._root / stage / key
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=folder.parent))
        try:
            start = self._clock()
            build(partial)
            seconds = self._clock() - start
            self._seal(partial, stage, key, inputs, seconds)
            if folder.exists():
                _retire(folder)  # damaged, or another program was quicker: one complete folder replaces another
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if self._index is not None:
            self._index.stage_built(key, stage, str(folder), seconds)
        return StageResult(stage, key, folder, hit=False, seconds=seconds)

    def _seal(self, folder: Path, stage: str, key: str, inputs: Mapping[str, Any], seconds: float) -> None:
        files = {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        record = {"stage": stage, "key": key, "inputs": dict(inputs), "files": files, "seconds": seconds}
        with (folder / _RECORD).open("w") as file:
            json.dump(record, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())


def _retire(folder: Path) -> None:
    grave = Path(tempfile.mkdtemp(prefix=".old.", dir=folder.parent))
    folder.rename(grave / folder.name)
    shutil.rmtree(grave, ignore_errors=True)
