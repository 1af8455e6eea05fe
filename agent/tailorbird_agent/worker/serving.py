"""ServingWorker: one process that holds a model's whole ladder and answers its requests."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird_agent.worker.arena import Arena, Layout, Tensor, tensor_bytes
from tailorbird_agent.worker.channel import Message
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import Answer, Notice, RungCheck, ServePlan, SwitchNote, WorkerStatus, jsonable
from tailorbird_agent.worker.process import WorkerProcess

#: Virtual memory a worker may take beyond the rungs' own: interpreter, libraries, thread stacks and their arenas.
_ADDRESS_SPACE_BASE_BYTES = 4 * 1024**3
_STOP_GRACE_S = 1.0


@dataclass(slots=True)
class RungTimes:
    """What one rung's answers took in all, microseconds; last_unix_s: when the last one came."""

    wall_us: float = 0.0
    queue_us: float = 0.0
    last_unix_s: float = 0.0


@dataclass(slots=True)
class ServingStats:
    """Counters since the worker started. rungs: answers of each; failures: requests it took and did not answer."""

    policy: str
    current_rung: str
    rungs: dict[str, int]
    times: dict[str, RungTimes]
    failures: int = 0
    requests: int = 0
    misses: int = 0
    switches: int = 0


@dataclass(slots=True)
class _Flight:
    """A request on its way: the caller's future, its slot, and the timer of its deadline."""

    future: asyncio.Future[Answer]
    slot: int
    timer: asyncio.TimerHandle


class ServingWorker:
    """One worker. Made by start(); every method is for the loop that started it.

    pid, exited (future of the exit status), stats, sandbox (layers in force), checks (how each rung came up),
    unloaded (rungs left out on request).
    """

    def __init__(self, plan: ServePlan, hang_timeout_s: float) -> None:
        self.plan = plan
        self.sandbox: tuple[str, ...] = ()
        self.checks: tuple[RungCheck, ...] = ()
        self.unloaded: frozenset[str] = frozenset()
        names = [rung.name for rung in plan.rungs]
        times = {name: RungTimes() for name in names}
        self.stats = ServingStats(plan.policy, names[-1], dict.fromkeys(names, 0), times)
        self._loop = asyncio.get_running_loop()
        self._hang_timeout_s = hang_timeout_s
        self._input_sizes = tuple(spec.size_bytes for spec in plan.inputs)
        self._arena = Arena(Layout.of(plan.inputs, plan.outputs))
        # The slot given back last is taken first: its pages are warm, and slots no burst needs are never touched.
        self._free = list(reversed(range(self._arena.layout.slots)))
        self._flights: dict[int, _Flight] = {}
        self._next_id = 0
        self._calls: collections.deque[asyncio.Future[Message]] = collections.deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._progress_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._draining = False
        self._obituary = ""
        self._hung = False
        try:
            self._process = WorkerProcess(
                "serve",
                threads=max(rung.threads for rung in plan.rungs),
                address_space_bytes=_ADDRESS_SPACE_BASE_BYTES + 8 * sum(rung.memory_bytes for rung in plan.rungs),
                on_message=self._on_message,
                on_end=self._on_end,
            )
        except OSError:
            self._arena.close()
            raise
        self.pid = self._process.pid
        self.exited = self._process.exited

    @classmethod
    async def start(cls, plan: ServePlan, *, timeout_s: float, hang_timeout_s: float | None = None) -> ServingWorker:
        """Start a process, load every rung, warm it and compare it with its golden outputs.

        hang_timeout_s: time without any answer after which a busy worker is killed; by default 10 s or fifty times the
        slowest rung. Raises WorkerError: RUNTIME_MISSING, MODULE_INVALID, GOLDEN_MISMATCH, OUT_OF_MEMORY,
        POLICY_UNKNOWN, WORKER_DIED, WORKER_TIMEOUT (not ready within timeout_s).
        """
        if not plan.rungs:
            raise WorkerError("MODULE_INVALID", f"the plan of {plan.model} has no rung")
        slowest_s = max(rung.cpu_us for rung in plan.rungs) / 1e6
        worker = cls(plan, hang_timeout_s or max(10.0, 50.0 * slowest_s))
        try:
            ready = await worker._call({"op": "start", "plan": jsonable(plan)}, timeout_s, (worker._arena.descriptor,))
        except BaseException:
            await worker.stop()
            raise
        worker.sandbox = tuple(ready["sandbox"])
        worker.checks = tuple(RungCheck(**check) for check in ready["checks"])
        worker.stats.current_rung = ready["current"]
        return worker

    async def infer(
        self,
        inputs: Sequence[Tensor],
        *,
        rung: str | None = None,
        slo_us: float | None = None,
        limit_us: float | None = None,
        timeout_s: float,
    ) -> Answer:
        """Answer one request; inputs are raw little-endian tensors in the plan's order, or where
        those lie: what reading there raises is raised.

        rung None lets the policy choose; a pinned rung never feeds the policy. slo_us overrides the plan's deadline,
        for which the policy holds a rung. limit_us, from now, is a deadline of this request alone: it may take a
        smaller rung and is refused when that time is over before it is run; once begun, it is answered, however late.
        Raises WorkerError: INPUT_INVALID, RUNG_NOT_FOUND, WORKER_BUSY (queue full, or draining), DEADLINE (not
        answered within timeout_s, not begun within limit_us), WORKER_DIED, WORKER_TIMEOUT (it hung and was killed).
        """
        self._check(inputs, rung)
        slot = self._free.pop()
        arrived_ns = time.perf_counter_ns()
        number = self._next_id
        self._next_id += 1
        message: dict[str, Any] = {"op": "infer", "id": number, "slot": slot, "at": arrived_ns}
        begin_s = timeout_s if limit_us is None else min(timeout_s, limit_us / 1e6)
        message["expires"] = arrived_ns + int(begin_s * 1e9)
        if limit_us is not None:
            message["limit"] = limit_us
        if rung is not None:
            message["rung"] = rung
        if slo_us is not None:
            message["slo"] = slo_us
        try:
            self._arena.write(slot, inputs)
        except Exception:
            self._free.append(slot)
            raise
        try:
            self._process.send(message)
        except OSError as error:
            self._free.append(slot)
            if isinstance(error, BlockingIOError):
                raise WorkerError("WORKER_BUSY", "the worker's socket is full") from error
            raise WorkerError("WORKER_DIED", f"worker {self.pid} is gone") from error
        timer = self._loop.call_later(timeout_s, self._expire, number, timeout_s)
        flight = _Flight(self._loop.create_future(), slot, timer)
        self._expect()
        self._idle.clear()
        self._flights[number] = flight
        return await flight.future

    async def set_policy(self, policy: str, slo_us: float | None) -> None:
        """Change policy and deadline. Raises ValueError with the policies that exist, WorkerError when it is gone."""
        reply = await self._call({"op": "policy", "policy": policy, "slo": slo_us})
        if "refused" in reply:
            raise ValueError(reply["refused"])
        self.stats.policy = policy
        self.stats.current_rung = reply["current"]

    async def load(self, rung: str | None) -> None:
        """Have a rung in memory from now on; None: return to the memory plan, without what was loaded and unloaded.

        Raises WorkerError: RUNG_NOT_FOUND, RUNG_TOO_LARGE (for the plan's memory), what loading it says, or when it is
        gone.
        """
        await self._remember("load", rung)

    async def unload(self, rung: str) -> None:
        """Let go of a rung, and refuse requests that pin it.

        Raises WorkerError: RUNG_NOT_FOUND, RUNG_IN_USE (the safe rung, or the one that answers now), or when the worker
        is gone.
        """
        await self._remember("unload", rung)

    async def _remember(self, operation: str, rung: str | None) -> None:
        if rung is not None and rung not in self.stats.rungs:
            raise WorkerError("RUNG_NOT_FOUND", f"no rung {rung!r}; there are: {', '.join(self.stats.rungs)}")
        reply = await self._call({"op": operation, "rung": rung})
        self.unloaded = frozenset(reply["unloaded"])

    async def set_caps(self, readings: Mapping[str, float | None]) -> Notice | None:
        """Pass on sensor readings (`adapt.caps` names them); memory, heat and battery may cap the ladder.

        Returns what to tell when the cap has changed.
        """
        reply = await self._call({"op": "caps", "readings": dict(readings)})
        return Notice(**reply["notice"]) if "notice" in reply else None

    @property
    def hung(self) -> bool:
        """Whether it ended because it showed no progress and was killed for that."""
        return self._hung

    async def status(self) -> WorkerStatus:
        """The worker from inside. Raises WorkerError when it is gone."""
        reply = await self._call({"op": "status"})
        reply["resident"] = tuple(reply["resident"])
        return WorkerStatus(**reply)

    async def drain(self, timeout_s: float) -> None:
        """Take no new request and wait for those in flight. Raises WorkerError WORKER_TIMEOUT if some are left."""
        self._draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            left = f"{len(self._flights)} requests were still in flight after {timeout_s:g} s"
            raise WorkerError("WORKER_TIMEOUT", left) from None

    async def stop(self) -> None:
        """End the process; requests in flight get WORKER_DIED. Returns when it is reaped. May be called twice."""
        if self._process.alive:
            self._draining = True
            self._obituary = self._obituary or f"worker {self.pid} was stopped"
            try:
                self._process.send({"op": "stop"})
                await asyncio.wait_for(asyncio.shield(self.exited), _STOP_GRACE_S)
            except (TimeoutError, OSError):
                self._process.kill("it did not stop when asked")
        await asyncio.shield(self.exited)

    @property
    def in_flight(self) -> int:
        """Requests sent and not answered."""
        return len(self._flights)

    @property
    def capacity(self) -> int:
        """Requests that can be in flight at once; one more is refused."""
        return self._arena.layout.slots

    def _check(self, inputs: Sequence[Tensor], rung: str | None) -> None:
        if not self._process.alive:
            raise WorkerError("WORKER_DIED", self._obituary or f"worker {self.pid} is gone")
        sizes = tuple(map(tensor_bytes, inputs))
        if sizes != self._input_sizes:
            message = f"the inputs have {sizes} bytes, {self.plan.model} takes {self._input_sizes}"
            raise WorkerError("INPUT_INVALID", message)
        if rung is not None and rung not in self.stats.rungs:
            raise WorkerError("RUNG_NOT_FOUND", f"no rung {rung!r}; there are: {', '.join(self.stats.rungs)}")
        if self._draining:
            raise WorkerError("WORKER_BUSY", f"worker {self.pid} is draining")
        if not self._free:
            raise WorkerError("WORKER_BUSY", f"{len(self._flights)} requests are waiting already")

    async def _call(
        self, message: Mapping[str, Any], timeout_s: float | None = None, descriptors: Sequence[int] = ()
    ) -> Message:
        """One control message and its reply, which comes after the answers queued before it.

        Kills the worker if no reply comes within timeout_s; without one the watchdog decides whether it hangs.
        """
        if not self._process.alive:
            raise WorkerError("WORKER_DIED", self._obituary or f"worker {self.pid} is gone")
        future: asyncio.Future[Message] = self._loop.create_future()
        try:
            self._process.send(message, descriptors)
        except ValueError as error:
            raise WorkerError("MODULE_INVALID", f"the plan of {self.plan.model} is too large: {error}") from error
        except OSError as error:
            raise WorkerError("WORKER_DIED", f"worker {self.pid} does not read its messages: {error}") from error
        if timeout_s is None:
            self._expect()
        self._calls.append(future)
        try:
            reply = await asyncio.wait_for(asyncio.shield(future), timeout_s)
        except TimeoutError:
            future.add_done_callback(_retrieve)
            why = f"no answer to {message['op']!r} within {timeout_s:g} s"
            self._process.kill(why)
            raise WorkerError("WORKER_TIMEOUT", f"worker {self.pid}: {why}") from None
        except asyncio.CancelledError:
            future.add_done_callback(_retrieve)
            raise
        if "error" in reply:
            raise WorkerError(*reply["error"])
        return reply

    def _on_message(self, message: Message) -> None:
        self._progress_s = self._loop.time()
        number = message.get("id")
        if number is None:
            future = self._calls.popleft()
            if not future.done():
                future.set_result(message)
            return
        flight = self._flights.pop(number)
        flight.timer.cancel()
        if not flight.future.done():
            self._land(flight, message)
        self._free.append(flight.slot)
        if not self._flights:
            self._idle.set()

    def _land(self, flight: _Flight, message: Message) -> None:
        if "error" in message:
            self.stats.failures += 1
            flight.future.set_exception(WorkerError(*message["error"]))
            return
        note, notice = message.get("switch"), message.get("notice")
        answer = Answer(
            outputs=self._arena.read(flight.slot),
            rung=message["rung"],
            wall_us=message["wall"],
            cpu_us=message["cpu"],
            queue_us=message["queue"],
            missed=message["missed"],
            switch=SwitchNote(**note) if note else None,
            notice=Notice(**notice) if notice else None,
        )
        stats = self.stats
        stats.requests += 1
        stats.rungs[answer.rung] += 1
        times = stats.times[answer.rung]
        times.wall_us += answer.wall_us
        times.queue_us += answer.queue_us
        times.last_unix_s = time.time()
        stats.misses += answer.missed is True
        stats.switches += answer.switch is not None
        stats.current_rung = message["current"]
        flight.future.set_result(answer)

    def _expire(self, number: int, timeout_s: float) -> None:
        """Give a request up; its slot stays taken until the worker is done with it."""
        future = self._flights[number].future
        if not future.done():
            future.set_exception(WorkerError("DEADLINE", f"no answer within {timeout_s:g} s"))

    def _expect(self) -> None:
        """Something is being asked: from now on the worker has to show progress."""
        if not self._flights and not self._calls:
            self._progress_s = self._loop.time()
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._hang_timeout_s, self._watch)

    def _watch(self) -> None:
        """Kill the worker when it has work and has said nothing for too long."""
        self._watchdog = None
        if not (self._flights or self._calls) or not self._process.alive:
            return
        left_s = self._progress_s + self._hang_timeout_s - self._loop.time()
        if left_s <= 0.0:
            self._process.kill(f"no answer for {self._hang_timeout_s:g} s with {len(self._flights)} requests waiting")
        else:
            self._watchdog = self._loop.call_later(left_s, self._watch)

    def _on_end(self, status: int) -> None:
        self._hung = hung = bool(self._process.killed_for)
        self._obituary = self._obituary or self._process.obituary(status)
        if self._watchdog is not None:
            self._watchdog.cancel()
        reason = "WORKER_TIMEOUT" if hung else "WORKER_DIED"
        for flight in self._flights.values():
            flight.timer.cancel()
            if not flight.future.done():
                flight.future.set_exception(WorkerError(reason, self._obituary))
        self._flights.clear()
        self._idle.set()
        for call in self._calls:
            if not call.done():
                call.set_exception(WorkerError(reason, self._obituary))
        self._calls.clear()
        self._arena.close()


def _retrieve(future: asyncio.Future[Message]) -> None:
    """Mark a late reply as seen, so that asyncio does not report it as lost."""
    if not future.cancelled():
        future.exception()
