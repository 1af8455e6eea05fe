"""Streams of chunks into the blob store: who may, what fits, where each blob resumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from tailorbird_agent.errors import RequestError, StoreError
from tailorbird_agent.lease import Lease, Leases
from tailorbird_agent.store.blobs import Blobs, BlobStat


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a blob. sha256 "" is the blob before; token 0 means no lease."""

    sha256: str
    size_bytes: int
    offset_bytes: int
    data: bytes
    token: int


class Uploads:
    """Receives blobs, one chunk in memory at a time. Disk work runs in threads, under the store's lock."""

    def __init__(
        self, blobs: Blobs, leases: Leases, *, store_lock: asyncio.Lock, make_room: Callable[[], Awaitable[object]]
    ) -> None:
        self._blobs = blobs
        self._leases = leases
        self._lock = store_lock
        self._make_room = make_room

    async def stat(self, digests: list[str]) -> list[BlobStat]:
        """How much of each blob is here; asking for one keeps it from being collected for a while."""
        return await asyncio.to_thread(self._stat, digests)

    async def receive(self, chunks: AsyncIterator[Chunk]) -> list[BlobStat]:
        """Take a stream of any number of blobs; returns how much of each is here at its end.

        Raises:
            StoreError: BLOB_OFFSET, BLOB_TOO_LARGE, BLOB_CORRUPT, DISK_FULL.
            LeaseError: LEASE_LOST, when the stream names a lease and that ends.
            RequestError: INPUT_INVALID.
        """
        sizes: dict[str, int] = {}
        sha256 = ""
        lease: Lease | None = None
        try:
            async for chunk in chunks:
                if not sizes and chunk.token:
                    lease = self._leases.check(chunk.token)
                elif lease is not None:
                    self._leases.check(lease.token)
                sha256 = chunk.sha256 or sha256
                if not sha256:
                    raise RequestError("INPUT_INVALID", "The first chunk names no blob.")
                if sha256 not in sizes:
                    # The name is claimed first: what breaks off from here on is released below.
                    sizes[sha256] = chunk.size_bytes
                    await self._begin(sha256, chunk.size_bytes, lease)
                async with self._lock:
                    await asyncio.to_thread(self._blobs.append, sha256, sizes[sha256], chunk.offset_bytes, chunk.data)
            return await self.stat(list(sizes))
        finally:
            for digest in sizes:
                self._blobs.end(digest)

    async def _begin(self, sha256: str, size_bytes: int, lease: Lease | None) -> None:
        async with self._lock:
            try:
                stat = await asyncio.to_thread(self._blobs.begin, sha256, size_bytes)
            except StoreError as error:
                if error.reason != "DISK_FULL":
                    raise
                await self._make_room()
                stat = await asyncio.to_thread(self._blobs.begin, sha256, size_bytes)
            if lease is not None and not stat.complete:
                lease.blobs.add(sha256)

    def _stat(self, digests: list[str]) -> list[BlobStat]:
        stats = [self._blobs.stat(digest) for digest in digests]
        for stat in stats:
            if stat.complete:
                self._blobs.touch(stat.sha256)
        return stats
