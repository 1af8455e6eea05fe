"""Durable files: tensors written beside, synced and renamed, so that a file is whole or is the one before.

What a disk or a copy does to a file afterwards is noticed when it is read.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch


def write_tensors(data: dict[str, Any], path: Path) -> None:
    """`torch.save` to a file that appears by rename and stays through a power cut.

    Raises: OSError when it cannot be written; what was there before is untouched then.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(data, beside)
        beside.replace(path)
    finally:
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


def _write(data: dict[str, Any], path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        sink = _Sink(descriptor)
        try:
            torch.save(data, sink)  # type: ignore[arg-type]
        except Exception as error:
            raise sink.error or error from error
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
