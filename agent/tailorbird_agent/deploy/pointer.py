"""The one reference every request of a model reads, and how a request waits while there is none."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tailorbird_agent.deploy.manifest import Manifest
from tailorbird_agent.worker.serving import ServingWorker

#: A gap that lasts longer than it was said to: come back in a moment.
LEAST_RETRY_S = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """A worker and the bundle it serves. since: the generation under which the bundle became active."""

    worker: ServingWorker
    bundle: str
    manifest: Manifest
    since: int


class Pointer:
    """Where a model's requests go. Moving it is one assignment: a request sees the old worker or the new one."""

    def __init__(self) -> None:
        self.current: Serving | None = None
        self._gap_until_s: float | None = None
        self._set = asyncio.Event()

    def move(self, serving: Serving | None) -> Serving | None:
        """Send requests to another worker, or make them wait; returns the one before."""
        before, self.current = self.current, serving
        self._gap_until_s = None
        if serving is None:
            self._set.clear()
        else:
            self._set.set()
        return before

    def open_gap(self, seconds: float) -> Serving | None:
        """Nothing serves for about so long, on purpose; returns what did."""
        before = self.move(None)
        self._gap_until_s = time.monotonic() + seconds
        return before

    def gap_left_s(self) -> float | None:
        """How much longer an announced gap is expected to last, at least a moment; None outside a gap."""
        return None if self._gap_until_s is None else max(LEAST_RETRY_S, self._gap_until_s - time.monotonic())

    async def wait(self, timeout_s: float) -> Serving | None:
        """What serves, as soon as something does; None when nothing did in time.

        The caller must use it before it awaits anything else: only then is it counted before a swap drains it.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while self.current is None:
                    await self._set.wait()
        except TimeoutError:
            return None
        return self.current
