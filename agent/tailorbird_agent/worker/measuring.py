"""MeasuringWorker: times candidates and device figures in a child that may crash, and survives it.

One child at a time, started when something is to be measured, kept until stop() or until the libraries or the thread
count change, replaced when a candidate ended it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from tailorbird_agent.bench import FIGURE_NAMES
from tailorbird_agent.worker.channel import Message
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import CandidatePlan, Figure, Protocol, Timings, jsonable
from tailorbird_agent.worker.process import WorkerProcess

#: Far above what any candidate needs, far below what would take a 64-bit board down through its page tables.
_ADDRESS_SPACE_BYTES = 16 * 1024**3
#: An interpreter with numpy; slow boards from a cold disk need most of it.
_START_TIMEOUT_S = 30.0
#: On top of a protocol's own maximum, for arrays and warm-up of a device figure.
_FIGURE_SLACK_S = 30.0

Libraries = tuple[tuple[str, Path], ...]


class MeasuringWorker:
    """Measures on behalf of whoever holds the device; calls are made one after the other.

    hardware_root: where the device's /proc and /sys are found; sandbox: layers in force.
    """

    def __init__(self, hardware_root: Path | str = "/") -> None:
        self._root = Path(hardware_root).absolute()
        self.sandbox: tuple[str, ...] = ()
        self._child: _Child | None = None
        self._turn = asyncio.Lock()

    async def measure(
        self,
        candidates: Sequence[CandidatePlan],
        protocol: Protocol,
        runtime_libraries: Libraries,
        candidate_timeout_s: float,
    ) -> AsyncIterator[tuple[int, Timings]]:
        """Time candidates in order; yields (index, timings) as they come.

        A candidate that does not load, raises, crashes, or takes longer than candidate_timeout_s in all, has its error
        in its timings; the batch goes on.
        """
        for index, candidate in enumerate(candidates):
            turns = self.measure_in_turns([candidate], protocol, runtime_libraries, candidate_timeout_s, seed=0)
            async with aclosing(turns):  # type: ignore[type-var]
                async for _, timings in turns:
                    yield index, timings

    async def measure_in_turns(
        self,
        candidates: Sequence[CandidatePlan],
        protocol: Protocol,
        runtime_libraries: Libraries,
        candidate_timeout_s: float,
        *,
        seed: int,
    ) -> AsyncIterator[tuple[int, Timings]]:
        """Time candidates side by side, in an order that `seed` draws; yields (index, timings) when all are done.

        What ends one of them ends the comparison: each has the error then.
        """
        message = {"op": "time", "candidates": [jsonable(each) for each in candidates], "protocol": jsonable(protocol)}
        message |= {"seed": seed}
        timeout_s = candidate_timeout_s * len(candidates)
        for index, candidate in enumerate(candidates):
            try:
                reply = await self._ask(message, protocol.threads, runtime_libraries, timeout_s)
                yield index, replace(Timings.from_json(reply["timings"]), label=candidate.label)
            except WorkerError as error:
                for rest, failed in list(enumerate(candidates))[index:]:
                    yield rest, Timings(failed.label, error=str(error))
                return
            message = {"op": "next"}

    async def benchmark(self, names: Sequence[str], protocol: Protocol) -> list[Figure]:
        """Measure device figures, all of FIGURE_NAMES when names is empty.

        Raises ValueError for a name that does not exist, WorkerError when the child died or hung.
        """
        unknown = sorted(set(names) - set(FIGURE_NAMES))
        if unknown:
            raise ValueError(f"unknown figure {', '.join(unknown)}; there are: {', '.join(FIGURE_NAMES)}")
        figures = []
        for name in names or FIGURE_NAMES:
            message = {"op": "figure", "name": name, "protocol": jsonable(protocol)}
            timeout_s = 2.0 * protocol.max_time_ms / 1e3 + _FIGURE_SLACK_S
            reply = await self._ask(message, protocol.threads, (), timeout_s)
            figures.append(Figure.from_json(reply["figure"]))
        return figures

    @property
    def busy(self) -> bool:
        """Whether a child is starting or measuring."""
        return self._child is not None and not self._child.idle

    async def stop(self) -> None:
        """End the child, if there is one, and what it is measuring. The next measurement starts another."""
        child, self._child = self._child, None
        if child is not None:
            await child.end("the measurement was stopped")

    async def _ask(self, message: Mapping[str, Any], threads: int, libraries: Libraries, timeout_s: float) -> Message:
        async with self._turn:
            child = await self._ready(threads, libraries)
            try:
                return await child.ask(message, timeout_s)
            finally:
                # Cancelled or timed out, it is still busy with what nobody waits for.
                if not child.idle:
                    await self.stop()

    async def _ready(self, threads: int, libraries: Libraries) -> _Child:
        if self._child is not None and (not self._child.idle or self._child.fits != (threads, libraries)):
            await self.stop()
        if self._child is None:
            child = _Child(threads, libraries)
            self._child = child
            found = [(name, str(path.absolute())) for name, path in libraries]
            opening = {"libraries": found, "hardware_root": str(self._root)}
            try:
                self.sandbox = tuple((await child.ask(opening, _START_TIMEOUT_S))["sandbox"])
            except BaseException:
                await self.stop()
                raise
        return self._child


class _Child:
    """One process and at most one question to it."""

    def __init__(self, threads: int, libraries: Libraries) -> None:
        self.fits = (threads, libraries)
        self._answer: asyncio.Future[Message] | None = None
        self._process = WorkerProcess(
            "measure",
            threads=threads,
            address_space_bytes=_ADDRESS_SPACE_BYTES,
            on_message=self._on_message,
            on_end=self._on_end,
        )

    @property
    def idle(self) -> bool:
        """Alive and without a question."""
        return self._process.alive and self._answer is None

    async def ask(self, message: Mapping[str, Any], timeout_s: float) -> Message:
        """Its reply. Raises WorkerError: WORKER_DIED, or WORKER_TIMEOUT after killing it."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self._process.send(message)
        except ValueError as error:
            self._answer = None
            raise WorkerError("INPUT_INVALID", f"the candidate's label and arguments are too long: {error}") from error
        except OSError as error:
            raise WorkerError("WORKER_DIED", f"the measuring worker is gone: {error}") from error
        try:
            return await asyncio.wait_for(self._answer, timeout_s)
        except TimeoutError:
            why = f"not done within {timeout_s:g} s"
            await self.end(why)
            raise WorkerError("WORKER_TIMEOUT", f"the measuring worker was killed: {why}") from None

    async def end(self, why: str) -> None:
        """Kill it and wait until it is reaped."""
        self._process.kill(why)
        await asyncio.shield(self._process.exited)

    def _on_message(self, message: Message) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(message)

    def _on_end(self, status: int) -> None:
        answer = self._answer
        if answer is not None and not answer.done():
            answer.set_exception(WorkerError("WORKER_DIED", self._process.obituary(status)))
