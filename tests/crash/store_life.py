"""A life of the store, filesystems that fail in the middle of it, and what must be so afterwards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tailorbird_agent.deploy import machine
from tailorbird_agent.ledger import Ledger
from tailorbird_agent.store import gc
from tailorbird_agent.store.blobs import Blobs, file_digest
from tailorbird_agent.store.filesystem import Filesystem


class Died(BaseException):
    """The process is gone; nothing may catch this."""


class UnsyncedFilesystem(Filesystem):
    """What reaches the disk is simulated here, so the real disk need not be waited for."""

    @staticmethod
    def _sync(path: Path, flags: int) -> None:
        pass


@dataclass
class DyingFilesystem(UnsyncedFilesystem):
    """Dies before operation `at`. Remembers what was not synced, so that a power cut can take it back."""

    at: int = 1 << 60
    count: int = 0
    synced_size: dict[Path, int] = field(default_factory=dict)
    undo: list[tuple[Path, Callable[[], None]]] = field(default_factory=list)

    def step(self, operation: str, path: Path) -> None:
        if self.count >= self.at:
            raise Died
        self.count += 1
        if operation in {"append", "truncate"}:
            self.synced_size.setdefault(path, path.stat().st_size if path.exists() else 0)
            if operation == "truncate":
                self.synced_size[path] = 0

    def sync(self, path: Path) -> None:
        super().sync(path)
        self.synced_size.pop(path, None)

    def rename(self, source: Path, target: Path) -> None:
        before = target.read_bytes() if target.exists() else None
        super().rename(source, target)
        if source in self.synced_size:
            self.synced_size[target] = self.synced_size.pop(source)

        def undo() -> None:
            target.replace(source)
            if before is not None:
                target.write_bytes(before)

        self.undo.append((target.parent, undo))

    def unlink(self, path: Path) -> None:
        before = path.read_bytes() if path.exists() else None
        super().unlink(path)
        self.synced_size.pop(path, None)
        if before is not None:
            self.undo.append((path.parent, lambda: path.write_bytes(before) and None))

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self.undo = [entry for entry in self.undo if entry[0] != path]

    def power_cut(self, *, names_survive: bool) -> None:
        """Lose unsynced bytes, and unsynced names or not: a disk may keep either."""
        if not names_survive:
            for _, undo in reversed(self.undo):
                undo()
        for path, size in self.synced_size.items():
            if path.exists():
                with path.open("r+b") as file:
                    file.truncate(min(size, path.stat().st_size))


def bundle_of(number: int) -> tuple[bytes, list[bytes]]:
    """A manifest and its blobs."""
    blobs = [f"{number}:{part}:".encode() * 300 for part in range(2)]
    refs = [{"sha256": hashlib.sha256(blob).hexdigest(), "size_bytes": len(blob)} for blob in blobs]
    return json.dumps({"model": "m", "blobs": refs}).encode(), blobs


@dataclass
class Promised:
    """What somebody was told before the process died: it must still be so."""

    token: int = 0
    generation: int = 0


def life(root: Path, files: Filesystem, promised: Promised) -> None:
    """Upload, stage, activate, commit and collect, three bundles long; picks up wherever the last life ended."""
    ledger, blobs = Ledger(root, files), Blobs(root, files)
    blobs.recover()
    now = ledger.get("m")
    now, _ = machine.step(now, machine.Restarted())
    ledger.put(now)
    promised.token = ledger.next_fencing_token()
    for number in range(3):
        manifest, parts = bundle_of(number)
        bundle = hashlib.sha256(manifest).hexdigest()
        for data in parts:
            sha256 = hashlib.sha256(data).hexdigest()
            start = blobs.begin(sha256, len(data)).offset_bytes
            for offset in range(start, len(data), 500):
                blobs.append(sha256, len(data), offset, data[offset : offset + 500])
            blobs.end(sha256)
        for data in parts:
            blobs.verify(hashlib.sha256(data).hexdigest())
        blobs.put(manifest)
        for event in (machine.Stage(bundle), machine.Activate(bundle)):
            now, _ = machine.step(now, event)
            ledger.put(now)
        if now.active != bundle:
            since = now.loading_since
            for event in (machine.Loaded(since), machine.Serve(since)):
                now, _ = machine.step(now, event)
                ledger.put(now)
            now, _ = machine.step(now, machine.Commit())
            ledger.put(now)
            promised.generation = now.generation
        gc.collect(blobs, gc.mark(blobs, now.bundles), now_s=3e10, grace_s=0)


def check(root: Path) -> machine.Deployment:
    """No file lies about its bytes; nothing recorded is missing."""
    for path in (root / "blobs").iterdir() if (root / "blobs").exists() else ():
        assert file_digest(path) == path.name
    ledger, blobs = Ledger(root), Blobs(root)
    assert ledger.set_aside is None
    now = ledger.get("m")
    for digest in gc.mark(blobs, now.bundles):
        assert blobs.stat(digest).complete, f"{now} needs {digest}"
    return now


def operations(tmp_path: Path) -> int:
    files = DyingFilesystem()
    life(tmp_path, files, Promised())
    return files.count
