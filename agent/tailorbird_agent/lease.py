"""Who holds the device for measuring. One lease at a time, with an end and a fencing token that only ever grows."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from tailorbird_agent.errors import LeaseError, RequestError

MIN_S, DEFAULT_S, MAX_S = 1.0, 60.0, 3600.0
MAX_HOLDER_CHARACTERS = 200


@dataclass(slots=True)
class Lease:
    """A lease granted. token: its fencing token; expires_unix_s: for people; ended: set when it is over."""

    lease_id: str
    holder: str
    token: int
    expires_s: float
    expires_unix_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    blobs: set[str] = field(default_factory=set)


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
        self._granting = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def current(self) -> Lease | None:
        """The lease in force; one whose time has passed is ended by looking."""
        lease = self._current
        if lease is not None and self._clock() >= lease.expires_s:
            self._finish(lease, "expired")
            return None
        return lease

    async def acquire(self, holder: str, duration_s: float | None) -> Lease:
        """Take the device.

        Raises:
            LeaseError: LEASE_HELD.
            RequestError: INPUT_INVALID, a duration outside 1 s to 1 h or an empty holder.
        """
        seconds = _duration(duration_s)
        if not 0 < len(holder) <= MAX_HOLDER_CHARACTERS:
            raise RequestError("INPUT_INVALID", f"holder has {len(holder)} of 1 to {MAX_HOLDER_CHARACTERS} characters.")
        async with self._granting:
            held = self.current
            if held is not None:
                rest = held.expires_s - self._clock()
                raise LeaseError(
                    "LEASE_HELD",
                    f'"{held.holder}" holds it for {rest:.0f} s more.',
                    retry_after_s=rest,
                    holder=held.holder,
                )
            token = await asyncio.to_thread(self._next_token)
            lease = Lease(uuid.uuid4().hex, holder, token, self._clock() + seconds, self._wall() + seconds)
            self._current = lease
            self._arm(seconds)
            return lease

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


def _duration(duration_s: float | None) -> float:
    seconds = DEFAULT_S if duration_s is None else duration_s
    if not MIN_S <= seconds <= MAX_S:
        raise RequestError(
            "INPUT_INVALID", f"A lease lasts {MIN_S:.0f} to {MAX_S:.0f} s, {seconds:g} s were asked for."
        )
    return seconds
