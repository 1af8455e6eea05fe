"""Shared memory of applications on this device: tensors that do not travel through the socket.

Triton's system shared-memory extension, for the Unix socket alone: a loopback port takes connections from every user of
the device. gRPC does not tell who a Unix peer is, so the agent must not open for one what the peer could not open by
itself: a region is accepted if everybody who can connect to the socket may read and write it.

A region is never mapped, and not held open: each use opens it again, makes sure that it is still the file that was
registered, and copies by pread or pwrite. So an application that truncates its region or dies costs its own request an
error, where touching a mapping would end the daemon with SIGBUS; and memory that it leaves behind is not kept alive.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tailorbird_agent.errors import RequestError

#: Where shm_open puts its files on Linux.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- opened there, with the checks below; never created
MAX_REGIONS = 256
_MAX_NAME_CHARACTERS = 256
#: As shm_open takes them: one file name, after slashes that do not count.
_KEY = re.compile(r"/{0,2}([A-Za-z0-9._:@%+=~-]{1,255})")


@dataclass(frozen=True, slots=True)
class Audience:
    """Who can connect to the socket: our user alone (group None), or also a group."""

    user: int
    group: int | None

    @classmethod
    def of(cls, socket: Path) -> Audience:
        """That of a socket of mode 0660: the folder says whether its group gets that far."""
        private = not socket.parent.stat().st_mode & 0o077
        return cls(os.geteuid(), None if private else socket.stat().st_gid)

    def may_use(self, file: os.stat_result) -> bool:
        """Whether all of them may read and write a file anyway."""
        if file.st_mode & 0o006 == 0o006:
            return True
        if self.group is None:
            return file.st_uid == self.user
        return file.st_gid == self.group and file.st_mode & 0o060 == 0o060


@dataclass(frozen=True, slots=True)
class Region:
    """Part of a shared-memory object, registered under a name. identity: device and inode of the object."""

    name: str
    key: str
    offset_bytes: int
    size_bytes: int
    identity: tuple[int, int]


class Regions:
    """The regions registered, whoever registered them."""

    def __init__(self, audience: Audience, folder: Path = SHARED_MEMORY) -> None:
        self._audience = audience
        self._folder = folder
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset_bytes: int, size_bytes: int) -> None:
        """Register part of an object. The same again is no error, nor is the name of one that is gone.

        Raises:
            RequestError: REGION_INVALID, REGION_EXISTS, REGION_LIMIT.
        """
        if not 0 < len(name) <= _MAX_NAME_CHARACTERS or not name.isprintable():
            raise RequestError("REGION_INVALID", f"{name[:64]!r} cannot name a region.")
        with self._open(name, key) as descriptor:
            status = os.fstat(descriptor)
        if not 0 < size_bytes <= status.st_size - offset_bytes:
            raise RequestError(
                "REGION_INVALID",
                f'"{key}" has {status.st_size} bytes, not {size_bytes} from {offset_bytes} on.',
            )
        region = Region(name, key, offset_bytes, size_bytes, (status.st_dev, status.st_ino))
        before = self._regions.get(name)
        if before is not None and before != region and self._lives(before):
            raise RequestError("REGION_EXISTS", f'"{name}" is {before.size_bytes} bytes of "{before.key}".')
        if before is None and len(self._regions) >= MAX_REGIONS:
            self._regions = {each: kept for each, kept in self._regions.items() if self._lives(kept)}
        if before is None and len(self._regions) >= MAX_REGIONS:
            raise RequestError("REGION_LIMIT", f"There are {MAX_REGIONS} already.")
        self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forget a region, all when name is empty; one that is not registered is no error, as with Triton."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def registered(self, name: str = "") -> Mapping[str, Region]:
        """One region or all, by name.

        Raises:
            RequestError: REGION_NOT_FOUND.
        """
        return {name: self._get(name)} if name else dict(self._regions)

    def span(self, name: str, offset_bytes: int, size_bytes: int) -> Span:
        """Part of a region, offset from the region's own start.

        Raises:
            RequestError: REGION_NOT_FOUND, REGION_INVALID.
        """
        region = self._get(name)
        if not 0 <= offset_bytes <= offset_bytes + size_bytes <= region.size_bytes or size_bytes < 1:
            raise RequestError(
                "REGION_INVALID", f'"{name}" has {region.size_bytes} bytes, not {size_bytes} from {offset_bytes} on.'
            )
        return Span(self, region, region.offset_bytes + offset_bytes, size_bytes)

    @contextmanager
    def opened(self, region: Region) -> Iterator[int]:
        """A descriptor of the object, if it is still the one that was registered.

        Raises:
            RequestError: REGION_INVALID.
        """
        with self._open(region.name, region.key) as descriptor:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) != region.identity:
                raise RequestError("REGION_INVALID", f'"{region.key}" is another object than was registered.')
            yield descriptor

    @contextmanager
    def _open(self, name: str, key: str) -> Iterator[int]:
        match = _KEY.fullmatch(key)
        if match is None or match[1] in {".", ".."}:
            raise RequestError("REGION_INVALID", f"{key[:64]!r} of region {name[:64]!r} is no shared-memory key.")
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            descriptor = os.open(self._folder / match[1], flags)
        except OSError as error:
            raise RequestError("REGION_INVALID", f'"{key}" cannot be opened: {error.strerror}.') from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                raise RequestError("REGION_INVALID", f'"{key}" is no shared-memory object.')
            if not self._audience.may_use(status):
                raise RequestError("REGION_PRIVATE", f'"{key}" has mode {stat.S_IMODE(status.st_mode):04o}.')
            yield descriptor
        finally:
            os.close(descriptor)

    def _get(self, name: str) -> Region:
        region = self._regions.get(name)
        if region is None:
            known = ", ".join(sorted(self._regions)[:16]) or "none"
            raise RequestError("REGION_NOT_FOUND", f'"{name[:64]}"; registered: {known[:1000]}.')
        return region

    def _lives(self, region: Region) -> bool:
        try:
            with self.opened(region):
                return True
        except RequestError:
            return False


@dataclass(frozen=True, slots=True)
class Span:
    """Where one tensor lies: size_bytes from start on, in the object of a region."""

    regions: Regions
    region: Region
    start: int
    size_bytes: int

    def read_into(self, target: memoryview) -> None:
        """Copy the tensor into a buffer of its size.

        Raises:
            RequestError: REGION_INVALID, the object is gone or has become shorter.
        """
        with self.regions.opened(self.region) as descriptor:
            done = 0
            while done < self.size_bytes:
                count = os.preadv(descriptor, [target[done : self.size_bytes]], self.start + done)
                if not count:
                    raise self._shorter(descriptor)
                done += count

    def write(self, data: bytes) -> None:
        """Copy a tensor to the start of the span.

        Raises:
            RequestError: REGION_INVALID, the object is gone or has become shorter.
        """
        view = memoryview(data)
        with self.regions.opened(self.region) as descriptor:
            # pwrite would make it longer again; between this look and the write it may, by no more than the tensor.
            if os.fstat(descriptor).st_size < self.start + len(view):
                raise self._shorter(descriptor)
            done = 0
            try:
                while done < len(view):
                    done += os.pwrite(descriptor, view[done:], self.start + done)
            except OSError as error:
                raise RequestError(
                    "REGION_INVALID", f'"{self.region.key}" cannot be written: {error.strerror}.'
                ) from None

    def _shorter(self, descriptor: int) -> RequestError:
        size_bytes = os.fstat(descriptor).st_size
        return RequestError(
            "REGION_INVALID",
            f'"{self.region.key}" has become shorter: {size_bytes} bytes, the tensor ends at '
            f"{self.start + self.size_bytes}.",
        )
