"""Upload of content-addressed blobs: one stream, 256 KiB chunks, resumed where it broke."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from tailorbird import wire
from tailorbird.device.failure import device_error, is_transient
from tailorbird.device.transport import Transport
from tailorbird.errors import BundleError, DeviceError
from tailorbird.types import BlobState

CHUNK_BYTES = 256 * 1024
_STAT_PAGE = 1000
_STAT_S = 10.0
_ATTEMPTS = 5
#: The slowest link worth waiting for: 256 KiB/s.
_SLOWEST_BYTES_PER_S = 256 * 1024
_RESTART_S = 30.0  # in which an agent that went away in the middle of an upload comes back: a busy board is slow

#: Called with (bytes sent so far, bytes to send in all).
Progress = Callable[[int, int], None]


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _chunks(content: bytes | Path, offset: int) -> Iterator[tuple[int, bytes]]:
    if isinstance(content, bytes):
        for start in range(offset, len(content), CHUNK_BYTES):
            yield start, content[start : start + CHUNK_BYTES]
        return
    with content.open("rb") as file:
        file.seek(offset)
        while data := file.read(CHUNK_BYTES):
            yield offset, data
            offset += len(data)


def stat(transport: Transport, digests: list[str], *, patience_s: float = 0.0) -> dict[str, BlobState]:
    """How much of each blob the agent has; patience_s: to wait for an agent that restarts. Raises DeviceError."""
    states: dict[str, BlobState] = {}
    for start in range(0, len(digests), _STAT_PAGE):
        response = transport.call(
            "StatBlobs",
            wire.requests.StatBlobsRequest(sha256=digests[start : start + _STAT_PAGE]),
            what="cannot ask the device which blobs it has",
            timeout_s=_STAT_S + patience_s,
            patience_s=patience_s,
        )
        for message in response.blobs:
            state = wire.blob_state_from(message)
            states[state.sha256] = state
    return states


class _Stream:
    """The request side of one UploadBlobs call. gRPC swallows what an iterator raises: it is kept in `error`."""

    def __init__(
        self,
        blobs: Mapping[str, bytes | Path],
        states: Mapping[str, BlobState],
        token: int,
        sent: Callable[[int], None],
    ) -> None:
        self._blobs = blobs
        self._states = states
        self._token = token
        self._sent = sent
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Any]:
        try:
            first = True
            for sha256, content in self._blobs.items():
                state = self._states.get(sha256)
                if state is not None and state.complete:
                    continue
                size = _size(content)
                offset = state.offset_bytes if state is not None else 0
                named = False
                # An empty or fully received but unverified blob still needs the message that names it.
                for position, data in _chunks(content, offset) if offset < size else [(offset, b"")]:
                    yield wire.requests.UploadBlobsRequest(
                        sha256="" if named else sha256,
                        size_bytes=0 if named else size,
                        offset_bytes=position,
                        data=data,
                        fencing_token=self._token if first else 0,
                    )
                    first, named = False, True
                    self._sent(len(data))
        except Exception as error:
            self.error = error
            raise


def upload(
    transport: Transport, blobs: Mapping[str, bytes | Path], *, token: int = 0, on_progress: Progress | None = None
) -> int:
    """Bring blobs to the agent; returns the bytes sent (0 when it had all of them).

    A stream that breaks is resumed from the offsets the agent reports, as long as each attempt makes progress.
    token: fencing token of a lease the blobs live with; 0 keeps them until garbage collection.
    Raises DeviceError (BLOB_CORRUPT, DISK_FULL, ...), DeviceUnreachableError, BundleError when a file cannot be read.
    """
    what = "cannot upload to the device"
    try:
        sizes = {sha256: _size(content) for sha256, content in blobs.items()}
    except OSError as cause:
        raise _unreadable(cause) from cause
    sent = 0
    last_missing = sum(sizes.values()) + 1
    stalled = 0
    states = stat(transport, list(blobs))
    total = _missing(sizes, states)

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        if on_progress is not None:
            on_progress(min(sent, total), total)

    while _incomplete(sizes, states):
        missing = _missing(sizes, states)
        stalled = stalled + 1 if missing >= last_missing else 0
        last_missing = missing
        stream = _Stream(blobs, states, token, count)
        try:
            transport.upload(iter(stream), timeout_s=30 + missing / _SLOWEST_BYTES_PER_S)
        except grpc.RpcError as error:
            if stream.error is not None:
                raise _unreadable(stream.error) from stream.error
            resumable = is_transient(error) or wire.error_info(error)[0] == "BLOB_OFFSET"
            if not resumable or stalled >= _ATTEMPTS:
                raise device_error(error, what, transport.address) from error
        else:
            if stalled >= _ATTEMPTS:
                raise DeviceError(what, why="the agent takes the stream but keeps nothing", reason="UPLOAD_STALLED")
        states = stat(transport, list(blobs), patience_s=_RESTART_S)
    return sent


def _unreadable(cause: Exception) -> BundleError:
    return BundleError(
        "cannot read a blob to upload", why=str(cause), fix="pack the bundle again", reason="BLOB_MISSING"
    )


def _incomplete(sizes: Mapping[str, int], states: Mapping[str, BlobState]) -> bool:
    return any(sha256 not in states or not states[sha256].complete for sha256 in sizes)


def _missing(sizes: Mapping[str, int], states: Mapping[str, BlobState]) -> int:
    """Bytes the agent still lacks."""
    missing = 0
    for sha256, size in sizes.items():
        state = states.get(sha256)
        if state is None or not state.complete:
            missing += size - (state.offset_bytes if state is not None else 0)
    return missing
