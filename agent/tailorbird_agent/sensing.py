"""Sensor readings for whoever asks, and for the workers whose caps depend on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from tailorbird_agent.hardware import Reading, SensorReader
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import Notice
from tailorbird_agent.worker.serving import ServingWorker

#: Readings younger than this answer a second question; a page with ten watchers costs as much as one.
FRESH_S = 0.1


class Sensing:
    """Reads the sensors in a thread: a sensor behind a slow bus must not hold up a request."""

    def __init__(self, reader: SensorReader, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reader = reader
        self._clock = clock
        self._lock = asyncio.Lock()
        self._readings: tuple[Reading, ...] = ()
        self._read_at_s = float("-inf")

    async def fresh(self) -> tuple[Reading, ...]:
        """Readings not older than FRESH_S."""
        async with self._lock:
            if self._clock() - self._read_at_s > FRESH_S:
                self._readings = (await asyncio.to_thread(self._reader.read)).readings
                self._read_at_s = self._clock()
            return self._readings

    async def feed(
        self,
        workers: Callable[[], Iterable[ServingWorker]],
        interval_s: float,
        tell: Callable[[str, Notice], None],
    ) -> None:
        """Push readings to every serving worker, for ever; while nothing serves, nothing is read.

        tell: called with the model and what to tell whenever its cap changed.
        """
        while True:
            serving = list(workers())
            if serving:
                values = {reading.name: reading.value for reading in await self.fresh()}
                for worker in serving:
                    with suppress(WorkerError):  # it just died; its watcher knows
                        notice = await worker.set_caps(values)
                        if notice is not None:
                            tell(worker.plan.model, notice)
            await asyncio.sleep(interval_s)
