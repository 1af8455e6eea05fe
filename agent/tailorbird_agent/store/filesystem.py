"""The operations the store performs on a disk, behind one seam so that tests can die after any of them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

#: What the system says when nothing more fits.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Filesystem:
    """Every change the store makes goes through `step` first; a test overrides it to count, fail or die."""

    def step(self, operation: str, path: Path) -> None:
        """Called before each change."""

    def append(self, path: Path, data: bytes) -> None:
        """Add bytes at the end of a file, creating it for this user alone."""
        self.step("append", path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    def write(self, path: Path, data: bytes) -> None:
        """Replace a file's bytes in place; not atomic, so only for files nobody reads yet."""
        self.step("truncate", path)
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.append(path, data)

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Cut a file to a size."""
        self.step("truncate", path)
        os.truncate(path, size_bytes)

    def sync(self, path: Path) -> None:
        """Put a file's bytes on the disk."""
        self.step("sync", path)
        self._sync(path, os.O_RDONLY)

    def sync_folder(self, path: Path) -> None:
        """Put a folder's names on the disk: a rename or unlink is not durable before this."""
        self.step("sync_folder", path)
        self._sync(path, os.O_RDONLY | os.O_DIRECTORY)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` by `source` in one step."""
        self.step("rename", target)
        source.replace(target)

    def unlink(self, path: Path) -> None:
        """Remove a file; an absent one is no error."""
        self.step("unlink", path)
        path.unlink(missing_ok=True)

    def touch(self, path: Path) -> None:
        """Mark a file as used now; an absent one is no error."""
        self.step("touch", path)
        # The kernel's own "now" is up to a tick old: it could lie before a lease's end that came first.
        self._set_time(path, time.time_ns())

    def set_time(self, path: Path, time_ns: int) -> None:
        """Give a file a time of its own, nanoseconds since 1970; an absent one is no error."""
        self.step("set_time", path)
        self._set_time(path, time_ns)

    def make_folder(self, path: Path) -> None:
        """Create a folder for this user alone."""
        self.step("make_folder", path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write_atomic(self, path: Path, data: bytes) -> None:
        """Replace a file so that any reader, at any time and after any crash, sees the old bytes or the new ones."""
        temporary = path.with_name(path.name + ".new")
        self.write(temporary, data)
        self.sync(temporary)
        self.rename(temporary, path)
        self.sync_folder(path.parent)

    def free(self, path: Path) -> tuple[int, int]:
        """Bytes and file entries this user may still create on the disk that holds `path`."""
        status = os.statvfs(path)
        # Some filesystems (btrfs) have no fixed inode table and report 0 of 0.
        entries = status.f_favail if status.f_files else 1 << 30
        return status.f_bavail * status.f_frsize, entries

    @staticmethod
    def _set_time(path: Path, time_ns: int) -> None:
        if path.exists():
            os.utime(path, ns=(time_ns, time_ns))

    @staticmethod
    def _sync(path: Path, flags: int) -> None:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
