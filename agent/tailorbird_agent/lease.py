"""Who holds the device for measuring. One lease at a time, with an end and a fencing token that only ever grows.

Who finds it held may wait in line: the higher priority first, among equals whoever came first.
"""

from __future__ import annotations

import asyncio
import bisect
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tailorbird_agent.errors import AgentError, LeaseError, RequestError

MIN_S, DEFAULT_S, MAX_S = 1.0, 60.0, 3600.0
MAX_HOLDER_CHARACTERS = 200
MAX_WAIT_S = 24 * 3600.0
MAX_PRIORITY = 100
#: Longest line: what comes after is refused, as it was before there was a line.
MAX_WAITING = 256


@dataclass(slots=True)
class Lease:
    """A lease granted. token: its fencing token; expires_unix_s: for people; ended: set when it is over.

    waiting: callers in line whose priority is at least that of the holder, who may want to take turns with them.
    """

    lease_id: str
    holder: str
    token: int
    expires_s: float
    expires_unix_s: float
    priority: int = 0
    waiting: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    blobs: set[str] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Place:
    """A place in line; `turn` is set when the device is kept for it."""

    holder: str
    priority: int
    turn: asyncio.Future[None]


class Leases:
    """The one lease of this device.

    A restart ends the lease: what was being measured is gone, and the next token is above the one before it.
    `clock` is monotonic; `on_end` is told once of every lease that ends, however it ends.
    """

    def __init__(
        self,
        next_token: Callable[[], int],
        *,
        on_end: Callable[[Lease, str], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._next_token = next_token
        self._on_end = on_end
        self._clock = clock
        self._wall = wall
        self._current: Lease | None = None
        self._line: list[_Place] = []
        self._arriving: _Place | None = None
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def current(self) -> Lease | None:
        """The lease in force; one whose time has passed is ended by looking."""
        lease = self._current
        if lease is not None and self._clock() >= lease.expires_s:
            self._finish(lease, "expired")
            return None
        return lease

    async def acquire(self, holder: str, duration_s: float | None, *, wait_s: float = 0.0, priority: int = 0) -> Lease:
        """Take the device, at once or after waiting in line for up to wait_s. A caller that is cancelled leaves it.

        Raises:
            LeaseError: LEASE_HELD, after wait_s.
            RequestError: INPUT_INVALID, a duration outside 1 s to 1 h, an empty holder, a wait or priority beyond its
                limits.
            AgentError: STOPPING.
        """
        seconds = _duration(duration_s)
        if not 0 < len(holder) <= MAX_HOLDER_CHARACTERS:
            raise RequestError("INPUT_INVALID", f"holder has {len(holder)} of 1 to {MAX_HOLDER_CHARACTERS} characters.")
        if not 0.0 <= wait_s <= MAX_WAIT_S or abs(priority) > MAX_PRIORITY:
            raise RequestError(
                "INPUT_INVALID",
                f"A caller waits for at most {MAX_WAIT_S:.0f} s, with a priority of -{MAX_PRIORITY} to {MAX_PRIORITY}.",
            )
        if self._closed:
            raise AgentError("STOPPING", retry_after_s=1.0)
        place = _Place(holder, priority, asyncio.get_running_loop().create_future())
        bisect.insort(self._line, place, key=lambda each: -each.priority)
        self._admit()
        try:
            if not place.turn.done():
                await self._turn(place, wait_s)
            token = await asyncio.to_thread(self._next_token)
            lease = Lease(uuid.uuid4().hex, holder, token, self._clock() + seconds, self._wall() + seconds, priority)
            self._current = lease
            self._arm(seconds)
            return lease
        finally:
            if self._arriving is place:
                self._arriving = None
            else:
                self._line.remove(place)
            self._admit()

    async def _turn(self, place: _Place, wait_s: float) -> None:
        """Wait until the device is kept for this place."""
        if wait_s <= 0.0 or len(self._line) > MAX_WAITING:
            raise self._refusal()
        try:
            async with asyncio.timeout(wait_s):
                await place.turn
        except TimeoutError:
            raise self._refusal() from None

    def _refusal(self) -> LeaseError:
        held = self.current
        if held is not None:
            rest = held.expires_s - self._clock()
            return LeaseError(
                "LEASE_HELD", f'"{held.holder}" holds it for {rest:.0f} s more.', retry_after_s=rest, holder=held.holder
            )
        first = self._arriving or self._line[0]
        return LeaseError("LEASE_HELD", f'"{first.holder}" is about to get it.', retry_after_s=1.0, holder=first.holder)

    def _admit(self) -> None:
        """Keep the device for the first in line, if it is free."""
        lease = self.current
        if lease is None and self._arriving is None and self._line:
            self._arriving = self._line.pop(0)
            if not self._arriving.turn.done():
                self._arriving.turn.set_result(None)
        if lease is not None:
            lease.waiting = sum(each.priority >= lease.priority for each in self._line)

    def close(self) -> None:
        """Send away whoever waits, and whoever comes from now on."""
        self._closed = True
        for place in self._line:
            if not place.turn.done():
                place.turn.set_exception(AgentError("STOPPING", retry_after_s=1.0))

    def renew(self, lease_id: str, duration_s: float | None) -> Lease:
        """Extend the lease in force, from now.

        Raises:
            LeaseError: LEASE_LOST.
            RequestError: INPUT_INVALID.
        """
        seconds = _duration(duration_s)
        lease = self.current
        if lease is None or lease.lease_id != lease_id:
            raise LeaseError("LEASE_LOST")
        lease.expires_s, lease.expires_unix_s = self._clock() + seconds, self._wall() + seconds
        self._arm(seconds)
        return lease

    def release(self, lease_id: str) -> None:
        """End a lease; one that ended before is no error."""
        lease = self.current
        if lease is not None and lease.lease_id == lease_id:
            self._finish(lease, "released")

    def check(self, token: int) -> Lease:
        """The lease in force, if `token` is its token.

        Raises:
            LeaseError: LEASE_REQUIRED without a token, LEASE_LOST with any but the current one.
        """
        if token <= 0:
            raise LeaseError("LEASE_REQUIRED")
        lease = self.current
        if lease is None or lease.token != token:
            raise LeaseError("LEASE_LOST", f"Its fencing token was {token}.")
        return lease

    def _arm(self, seconds: float) -> None:
        """Look again when the lease should have ended, so that it ends even when nobody asks."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        if (lease := self.current) is not None:
            self._arm(max(lease.expires_s - self._clock(), 0.01))

    def _finish(self, lease: Lease, how: str) -> None:
        self._current = None
        if self._timer is not None:
            self._timer.cancel()
        lease.ended.set()
        self._on_end(lease, how)
        self._admit()


def _duration(duration_s: float | None) -> float:
    seconds = DEFAULT_S if duration_s is None else duration_s
    if not MIN_S <= seconds <= MAX_S:
        raise RequestError(
            "INPUT_INVALID", f"A lease lasts {MIN_S:.0f} to {MAX_S:.0f} s, {seconds:g} s were asked for."
        )
    return seconds
