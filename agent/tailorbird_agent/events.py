"""What happened on this device, in order: JSON lines in bounded segments, with sequence numbers never used twice.

An event is written to its segment before anybody sees it, so it survives the death of the process. A power cut may lose
the last of them; numbers are reserved on disk in blocks, and after a reboot counting goes on above the block, so even
then no number comes back with another meaning.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tailorbird_agent.errors import StoreError
from tailorbird_agent.store.filesystem import Filesystem
from tailorbird_agent.store.records import Record

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 256 << 10
SEGMENTS = 16
#: Numbers reserved by one durable write, which takes tens of milliseconds on an SD card and must stay rare.
RESERVED = 4096
PAGE = 256
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Event:
    """Something the agent did or noticed. message is one line for people, details are for machines."""

    sequence: int
    time_s: float
    kind: str
    model: str = ""
    message: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class EventLog:
    """The events of one agent: append-only, the oldest segment goes when there are more than SEGMENTS."""

    def __init__(
        self,
        root: Path,
        filesystem: Filesystem | None = None,
        *,
        wall: Callable[[], float] = time.time,
        boot_id: str | None = None,
    ) -> None:
        self.files = filesystem or Filesystem()
        self.folder = root / "events"
        self.files.make_folder(self.folder)
        self._wall = wall
        self._boot_id = boot_id if boot_id is not None else _boot_id()
        self._record = Record(self.folder / "reserved.json", "tailorbird.agent-events/1", self.files)
        self._grown = asyncio.Event()
        self._segment, self._size, self.last_sequence = self._open()
        reserved = self._record.load()
        sequence = reserved.get("sequence", 0)
        self._reserved = sequence if isinstance(sequence, int) else 0
        if reserved.get("boot_id") != self._boot_id:
            # Numbers up to the reserved one may be taken, and with that none is left of them: the next event reserves.
            self.last_sequence = max(self.last_sequence, self._reserved)
            self._reserved = self.last_sequence

    def append(self, kind: str, model: str = "", message: str = "", details: Mapping[str, str] | None = None) -> Event:
        """Record an event and wake those who watch."""
        event = Event(self.last_sequence + 1, self._wall(), kind, model, message, details or {})
        line = json.dumps(asdict(event), separators=(",", ":")).encode() + b"\n"
        try:
            if self.last_sequence >= self._reserved:
                self._reserve()
            if self._segment is None or self._size + len(line) > SEGMENT_BYTES:
                self._segment, self._size = self._rotate(event.sequence), 0
            self.files.append(self._segment, line)
        except (OSError, StoreError) as error:
            # A full disk must not stop serving. The line may be torn: what follows goes to a segment of its own.
            logger.warning("event not recorded (%s): %s", error, line.decode().rstrip())
            self._segment = None
            return event
        self._size += len(line)
        self.last_sequence = event.sequence
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()
        return event

    def read(
        self, since: int, *, limit: int = PAGE, kinds: AbstractSet[str] = frozenset(), model: str = ""
    ) -> tuple[list[Event], int]:
        """Matching events after `since`, oldest first, and the sequence number up to which was looked."""
        found: list[Event] = []
        cursor = since
        segments = self._segments()
        for segment, following in zip(segments, [*segments[1:], None], strict=True):
            if following is not None and _first(following) <= since + 1:
                continue
            for event in _events(segment):
                if event.sequence <= cursor:
                    continue
                cursor = event.sequence
                if (not kinds or event.kind in kinds) and model in {"", event.model}:
                    found.append(event)
                    if len(found) == limit:
                        return found, cursor
        return found, cursor

    async def watch(
        self, since: int, *, kinds: AbstractSet[str] = frozenset(), model: str = ""
    ) -> AsyncIterator[Event]:
        """Matching events after `since`, then each new one. A slow reader reads on from the log: nothing is queued."""
        cursor = since
        while True:
            grown = self._grown
            events, cursor = await asyncio.to_thread(self.read, cursor, kinds=kinds, model=model)
            for event in events:
                yield event
            if len(events) < PAGE:
                await grown.wait()

    def _open(self) -> tuple[Path | None, int, int]:
        """Newest segment, its size and last sequence; a torn last line goes."""
        for segment in reversed(self._segments()):
            data = segment.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                self.files.truncate(segment, whole)
            events = _events(segment)
            if events:
                return segment, whole, events[-1].sequence
        return None, 0, 0

    def _rotate(self, sequence: int) -> Path:
        for old in self._segments()[: -(SEGMENTS - 1)]:
            self.files.unlink(old)
        return self.folder / f"{sequence:016d}.jsonl"

    def _reserve(self) -> None:
        self._record.save({"sequence": self.last_sequence + RESERVED, "boot_id": self._boot_id})
        self._reserved = self.last_sequence + RESERVED

    def _segments(self) -> Sequence[Path]:
        return sorted(path for path in self.folder.glob("*.jsonl") if path.stem.isdecimal())


def _events(segment: Path) -> list[Event]:
    try:
        lines = segment.read_bytes().split(b"\n")
    except FileNotFoundError:  # rotated away since it was listed
        return []
    found = (_event(line) for line in lines[:-1])
    return [event for event in found if event is not None]


def _event(line: bytes) -> Event | None:
    try:
        event = Event(**json.loads(line))
    except (ValueError, TypeError, RecursionError):  # a block lost in a power cut
        return None
    return event if isinstance(event.sequence, int) else None


def _first(segment: Path) -> int:
    return int(segment.stem)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""
