"""Durable files: tensors written beside, synced and renamed, so that a file is whole or is the one before.

What a disk or a copy does to a file afterwards is noticed when it is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import zipfile
from pathlib import Path
from typing import Any

import torch


def write_tensors(data: dict[str, Any], path: Path) -> None:
    """`torch.save` to a file that appears by rename and stays through a power cut.

    What writers that were killed left beside it goes first. Raises: OSError when it cannot be written; what was there
    before is untouched then.
    """
    remove_stale(path)
    beside, descriptor = _opened_beside(path)
    try:
        _write(data, descriptor)
        beside.replace(path)
    finally:
        os.close(descriptor)
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_tensors(path: Path) -> Any:
    """Plain values and tensors from a file, on the CPU; nothing in it is run.

    Raises: OSError, zipfile.BadZipFile for a file that is damaged, pickle.UnpicklingError for other contents.
    """
    with zipfile.ZipFile(path) as archive:  # torch writes checksums, but does not look at them
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    return torch.load(path, weights_only=True, map_location="cpu")


def remove_stale(path: Path) -> None:
    """Remove what writers of a file that were killed left beside it. A writer that lives holds a lock on its own."""
    names = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{16}\.partial")
    for beside in [entry for entry in path.parent.iterdir() if names.fullmatch(entry.name)]:
        # It may be another's: still being written, just renamed, or not ours to touch. Then it stays.
        with contextlib.suppress(OSError):
            descriptor = os.open(beside, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                beside.unlink()
            finally:
                os.close(descriptor)


def _opened_beside(path: Path) -> tuple[Path, int]:
    """A new file beside, open and locked until it is closed, which a process that dies does as well."""
    while True:
        beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # where files cannot be locked, nothing is taken for stale either
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return beside, descriptor
        os.close(descriptor)  # another writer took it for stale before it was locked


def _write(data: dict[str, Any], descriptor: int) -> None:
    sink = _Sink(descriptor)
    try:
        torch.save(data, sink)  # type: ignore[arg-type]
    except Exception as error:
        raise sink.error or error from error
    os.fsync(descriptor)


class _Sink:
    """Takes what torch writes. torch reports a write that failed in its own words: the reason is kept here."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write everything. Raises: OSError."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.error = error
            raise
        return size

    def flush(self) -> None:
        """Nothing is held back."""
