"""Blobs by content: uploads grow in incoming/, and only verified bytes ever get a name in blobs/.

Synchronous and blocking on purpose; the daemon calls it from threads. Memory use does not depend on a blob's size.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tailorbird_agent.errors import RequestError, StoreError
from tailorbird_agent.store.filesystem import FULL, Filesystem
from tailorbird_agent.store.quota import Quota

DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_CHUNK_BYTES = 256 << 10
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class BlobStat:
    """How much of a blob is here: `offset_bytes` is where an upload resumes."""

    sha256: str
    complete: bool
    offset_bytes: int


class Blobs:
    """The blob folder of one agent."""

    def __init__(self, root: Path, filesystem: Filesystem | None = None, quota: Quota | None = None) -> None:
        self.files = filesystem or Filesystem()
        self.quota = quota or Quota()
        self.folder = root / "blobs"
        self.incoming = root / "incoming"
        self._promised: dict[str, int] = {}
        for folder in (self.folder, self.incoming):
            self.files.make_folder(folder)

    def path(self, sha256: str) -> Path:
        """Where a complete blob lies.

        Raises:
            StoreError: BLOB_MISSING.
        """
        path = self.folder / _digest(sha256)
        if not path.is_file():
            raise StoreError("BLOB_MISSING", f"Its digest is {sha256}.", sha256=sha256)
        return path

    def stat(self, sha256: str) -> BlobStat:
        """How much of a blob is here."""
        complete = self.folder / _digest(sha256)
        if complete.is_file():
            return BlobStat(sha256, complete=True, offset_bytes=complete.stat().st_size)
        part = self._part(sha256)
        return BlobStat(sha256, complete=False, offset_bytes=part.stat().st_size if part.is_file() else 0)

    def begin(self, sha256: str, size_bytes: int) -> BlobStat:
        """Promise room for the rest of a blob, before any of its bytes are taken.

        Raises:
            RequestError: INPUT_INVALID, a malformed digest or a negative size.
            StoreError: DISK_FULL; BLOB_TOO_LARGE when more bytes are here than the blob is said to have.
        """
        if size_bytes < 0:
            raise RequestError("INPUT_INVALID", f"size_bytes is {size_bytes}.")
        stat = self.stat(sha256)
        if stat.offset_bytes > size_bytes:
            raise StoreError("BLOB_TOO_LARGE", f"{stat.offset_bytes} bytes are here, {size_bytes} were announced.")
        if stat.complete:
            return stat
        if stat.offset_bytes == size_bytes > 0:
            # The process died after the last byte and before its verdict.
            self._publish(sha256)
            return self.stat(sha256)
        needed = size_bytes - stat.offset_bytes
        promised = sum(rest for digest, rest in self._promised.items() if digest != sha256)
        used = self.used_bytes() if self.quota.limit_bytes else 0
        self.quota.check(needed, used_bytes=used, promised_bytes=promised, free=self.files.free(self.incoming))
        self._promised[sha256] = needed
        return stat

    def append(self, sha256: str, size_bytes: int, offset_bytes: int, data: bytes) -> BlobStat:
        """Add a chunk; the chunk that completes the blob also verifies and publishes it.

        Raises:
            StoreError: BLOB_OFFSET, BLOB_TOO_LARGE, BLOB_CORRUPT (the part is discarded), DISK_FULL.
        """
        stat = self.stat(sha256)
        if stat.complete:
            return stat
        if len(data) > MAX_CHUNK_BYTES:
            raise StoreError("BLOB_TOO_LARGE", f"The chunk has {len(data)} bytes.")
        if offset_bytes != stat.offset_bytes:
            raise StoreError(
                "BLOB_OFFSET",
                f"{stat.offset_bytes} bytes are here, the chunk starts at {offset_bytes}.",
                offset_bytes=str(stat.offset_bytes),
            )
        end = offset_bytes + len(data)
        if end > size_bytes:
            raise StoreError("BLOB_TOO_LARGE", f"The chunk ends at {end}, {size_bytes} bytes were announced.")
        try:
            self.files.append(self._part(sha256), data)
            self._promised[sha256] = size_bytes - end
            if end == size_bytes:
                self._publish(sha256)
        except OSError as error:
            if error.errno in FULL:
                raise StoreError("DISK_FULL", f"Writing stopped: {error.strerror}.") from None
            raise
        return BlobStat(sha256, complete=end == size_bytes, offset_bytes=end)

    def recover(self) -> None:
        """Publish parts that were whole when the process died, so that nobody waits for bytes that are here."""
        for path in list(self.incoming.glob("*.part")):
            sha256 = path.name.removesuffix(".part")
            if DIGEST.fullmatch(sha256) and sha256 not in self._promised and file_digest(path) == sha256:
                self._publish(sha256)

    def verify(self, sha256: str) -> None:
        """Read a blob again and compare; a damaged one is removed, so that it can be sent again.

        Raises:
            StoreError: BLOB_MISSING, BLOB_CORRUPT.
        """
        path = self.path(sha256)
        if file_digest(path) != sha256:
            self.files.unlink(path)
            self.files.sync_folder(self.folder)
            raise StoreError("BLOB_CORRUPT", f"The disk changed the blob {sha256}.", sha256=sha256)

    def put(self, data: bytes) -> str:
        """Keep bytes the agent already holds (a manifest); returns their digest."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.stat(sha256).complete:
            self.files.unlink(self._part(sha256))
            self.begin(sha256, len(data))
            try:
                for start in range(0, max(len(data), 1), MAX_CHUNK_BYTES):
                    self.append(sha256, len(data), start, data[start : start + MAX_CHUNK_BYTES])
            finally:
                self.end(sha256)
        return sha256

    def end(self, sha256: str) -> None:
        """Forget the room promised to an upload that finished or broke off."""
        self._promised.pop(sha256, None)

    def touch(self, sha256: str) -> None:
        """Somebody intends to use this blob: its time of grace before collection starts again."""
        self.files.touch(self.folder / _digest(sha256))

    def delete(self, sha256: str) -> None:
        """Remove a blob and any part of it."""
        self.files.unlink(self.folder / _digest(sha256))
        self.files.unlink(self._part(sha256))

    def uploading(self) -> frozenset[str]:
        """Digests of uploads under way."""
        return frozenset(self._promised)

    def used_bytes(self) -> int:
        """Bytes all blobs and parts take."""
        return sum(path.stat().st_size for _, path in self.entries())

    def entries(self) -> Iterator[tuple[str, Path]]:
        """Digest and file of every blob and part."""
        for folder in (self.folder, self.incoming):
            for path in folder.iterdir():
                if DIGEST.fullmatch(path.name.removesuffix(".part")):
                    yield path.name.removesuffix(".part"), path

    def _publish(self, sha256: str) -> None:
        part = self._part(sha256)
        self.files.sync(part)
        if file_digest(part) != sha256:
            self.files.unlink(part)
            raise StoreError("BLOB_CORRUPT", f"It was announced as {sha256}.", sha256=sha256)
        self.files.rename(part, self.folder / sha256)
        self.files.sync_folder(self.folder)

    def _part(self, sha256: str) -> Path:
        return self.incoming / f"{_digest(sha256)}.part"


def file_digest(path: Path) -> str:
    """SHA-256 of a file, lower-case hex, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _digest(sha256: str) -> str:
    """The digest, if it is one: it becomes a file name."""
    if not DIGEST.fullmatch(sha256):
        raise RequestError("INPUT_INVALID", f"Not a SHA-256 in lower-case hex: {sha256[:80]!r}.")
    return sha256
