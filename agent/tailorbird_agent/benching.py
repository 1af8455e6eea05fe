"""Measuring under the lease: one measuring worker, kept between calls, never longer than the lease.

What a candidate did to its process does not reach the next holder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from tailorbird_agent.errors import LeaseError, RequestError, ServingError
from tailorbird_agent.lease import Lease, Leases
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.measuring import MeasuringWorker
from tailorbird_agent.worker.plan import CandidatePlan, Figure, Protocol, Timings

Item = TypeVar("Item")


class Bench:
    """Runs candidates and device benchmarks for whoever holds the lease; calls under one lease take turns."""

    def __init__(self, leases: Leases, hardware_root: Path | str = "/") -> None:
        self._leases = leases
        self._worker = MeasuringWorker(hardware_root)
        self._worker_token = 0
        self._turn = asyncio.Lock()

    async def measure(
        self,
        token: int,
        candidates: Sequence[CandidatePlan],
        protocol: Protocol,
        runtime_libraries: tuple[tuple[str, Path], ...],
        candidate_timeout_s: float,
        *,
        interleaved: bool = False,
        seed: int = 0,
        fresh_process: bool = False,
    ) -> AsyncIterator[tuple[int, Timings]]:
        """Timings of each candidate, in order; a candidate that fails yields its error. interleaved: timed in turns;
        fresh_process: by a worker that has timed nothing before.

        Raises:
            LeaseError: LEASE_REQUIRED, LEASE_LOST (also when the lease ends meanwhile).
        """
        if fresh_process:
            async with self._turn:
                await self._enter(token)
                await self._worker.stop()
        work = (candidates, protocol, runtime_libraries, candidate_timeout_s)
        results = self._worker.measure_in_turns(*work, seed=seed) if interleaved else self._worker.measure(*work)
        async with aclosing(results):  # type: ignore[type-var]
            while True:
                # The turn ends with the candidate: a caller that stops reading must not keep the next one waiting.
                async with self._turn:
                    item = await _under(await self._enter(token), anext(results, None))
                if item is None:
                    return
                yield item

    async def benchmark(self, token: int, names: Sequence[str], protocol: Protocol) -> list[Figure]:
        """Device figures.

        Raises:
            LeaseError: LEASE_REQUIRED, LEASE_LOST.
            RequestError: INPUT_INVALID, an unknown name.
            ServingError: WORKER_DIED, WORKER_TIMEOUT.
        """
        async with self._turn:
            lease = await self._enter(token)
            try:
                return await _under(lease, self._worker.benchmark(names, protocol))
            except ValueError as error:
                raise RequestError("INPUT_INVALID", f"{error}.") from None
            except WorkerError as error:
                raise ServingError(error.reason, f"{error.message}.") from None

    async def _enter(self, token: int) -> Lease:
        """The lease of this token; the worker of another one is ended."""
        self._leases.check(token)
        if token != self._worker_token:
            await self._worker.stop()
            self._worker_token = token
        return self._leases.check(token)

    async def stop(self) -> None:
        """End the worker; the next call starts another."""
        await self._worker.stop()


async def _under(lease: Lease, work: Awaitable[Item]) -> Item:
    """The result of `work`, unless the lease ends first: then it is cancelled."""
    task = asyncio.ensure_future(work)
    ended = asyncio.ensure_future(lease.ended.wait())
    try:
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise LeaseError("LEASE_LOST", "It ended while measuring.")
    finally:
        for each in (task, ended):
            each.cancel()
        await asyncio.gather(task, ended, return_exceptions=True)
