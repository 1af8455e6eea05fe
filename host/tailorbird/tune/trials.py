"""Trying schedules: built in batches on the host, timed in batches on a pool of devices, judged one by one.

    with Trials(builders, pool, runtime_library=library) as trials:
        for outcome in trials.stream(propose):          # propose(count) -> plans; [] ends it, None waits for outcomes
            store.add(record_of(outcome))

While the devices time, the next batches are built: there is one batch more under way than there are devices. Each
outcome comes as soon as the device has sent it, so what was yielded can be kept whatever happens next; a device that
goes away costs the rest of its batch a second attempt elsewhere.

What makes times comparable: every 16 candidates the fastest schedule known of one of the batch's kernels is timed
again, and where it takes more than 3 % longer or shorter than it did, or on another board, the times beside it are
divided by that ratio. What makes them right: each kernel's plain loops are timed first, as the fallback that no
schedule may be slower than, and every candidate's answer must be theirs.
"""

from __future__ import annotations

import dataclasses
import errno
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tailorbird.compile.base import CompileTarget
from tailorbird.device import Device, DevicePool, Lease
from tailorbird.device.measure import timeout_s_of
from tailorbird.errors import DeviceError, EnvironmentFaultError
from tailorbird.tune.failure import Failure, FailureKind, failure_of
from tailorbird.tune.measuring import ARGUMENT_TYPES
from tailorbird.tune.space import DEFAULT_SKETCH, Decisions
from tailorbird.types import Candidate, Measurement, ModuleKind, TensorSpec, TimingProtocol, Verdict

#: A candidate may take so many times the best known time of its kernel, and at least so long.
_DEADLINE_FACTOR, _DEADLINE_FLOOR_US = 10.0, 50e3
#: Smaller changes of the incumbent's time are noise, larger ones than a factor are not the device's.
_DRIFT_NOTED, _DRIFT_FACTOR = 0.03, 2.0
#: Two answers may differ by so much of the size of what was summed: float32 in another order.
_ANSWER_TOLERANCE = 1e-4
_DONE = object()
#: A stored trace without a step: plain loops.
PLAIN_TRACE = "[[],[]]"


class BuildPool(Protocol):
    """Where candidates are compiled: worker processes here (Builders) or on a Ray cluster (RayBuilders)."""

    target: CompileTarget
    workers: int

    def new_file(self, suffix: str) -> Path:
        """A path no other request uses."""
        ...

    def submit(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        """Queue a request of worker.py; the future gives the reply, {"error": ...} included. It never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule of one kernel: a sketch with its decisions, or a stored trace where that is given.

    kernel: file with the kernel's module; name: for people; source: one of types.schedule.SOURCES; mode: how a lent
    schedule was carried over (tune.replay.MODES), from the kernel `donor` on boards of `donor_class`.
    """

    workload: str
    name: str
    kernel: Path
    sketch: int = DEFAULT_SKETCH
    decisions: Decisions = ()
    trace: str = ""
    source: str = "search"
    mode: str = ""
    donor: str = ""
    donor_class: str = ""

    @property
    def is_default(self) -> bool:
        """Whether it is the kernel's plain loops."""
        return self.sketch == DEFAULT_SKETCH and self.trace in {"", PLAIN_TRACE}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan.

    us: microseconds per call, on-CPU for one thread, wall for several, brought back to what the device did when its
    incumbent was timed; None when it failed. drift: how much longer things took than then, 0 when that was not seen.
    checked: the answer was compared. decisions, trace: of the schedule as it was built. batch: plans of one batch
    share it.
    """

    plan: Plan
    us: float | None
    failure: Failure | None
    measurement: Measurement | None = None
    device: str = ""
    drift: float = 0.0
    checked: bool = False
    decisions: Decisions = ()
    trace: str = ""
    batch: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Built:
    """A plan that compiled."""

    plan: Plan
    candidate: Candidate
    decisions: Decisions
    trace: str
    batch: str


@dataclass(frozen=True, slots=True, eq=False)
class _Incumbent:
    """The fastest schedule known of a kernel, and where its time is from."""

    us: float
    candidate: Candidate
    device: str


@dataclass(slots=True)
class _Board:
    """One device in this run. since: candidates since the incumbent was timed; ratio: how long things take now."""

    name: str
    since: int = 0
    ratio: float = 1.0
    calibrated: bool = False


@dataclass(slots=True)
class _Known:
    """What all batches share, under one lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    incumbents: dict[str, _Incumbent] = field(default_factory=dict)
    answers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)
    boards: dict[str, _Board] = field(default_factory=dict)


class Trials:
    """Tries plans on a pool of devices. A context manager; leaving it waits for the batches under way.

    batch: plans per batch and upload; group: candidates per shared library; control_every: candidates between two
    timings of an incumbent; plain_first: whether the plain loops of a plan's kernel are timed before it, without which
    its answer is not compared with any. runtime_library: libtvm_runtime.so for the devices.
    """

    def __init__(
        self,
        builders: BuildPool,
        pool: DevicePool,
        *,
        protocol: TimingProtocol,
        runtime_library: Path | None,
        batch: int = 16,
        group: int = 8,
        control_every: int = 16,
        plain_first: Callable[[Plan], bool] = lambda _: True,
    ) -> None:
        self._builders = builders
        self._pool = pool
        self._protocol = dataclasses.replace(protocol, threads=builders.target.threads)
        self._brief = dataclasses.replace(self._protocol, min_runs=1, min_seconds=protocol.min_seconds / 4)
        self._library = runtime_library
        self._plain_first = plain_first
        self._batch, self._group, self._control_every = batch, group, control_every
        self._depth = len(pool.names) + 1
        self._threads = ThreadPoolExecutor(self._depth, thread_name_prefix="trials")
        self._arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._known = _Known()
        #: Wall seconds of all batches so far, which overlap: building, and on devices.
        self.build_s = self.run_s = 0.0
        self._stopped = threading.Event()

    def stream(self, propose: Callable[[int], Sequence[Plan] | None]) -> Iterator[Outcome]:
        """Outcomes as they come, of the plans that `propose` gives and of the plain loops of their kernels.

        `propose` is asked for so many plans; no plans end the stream once all outcomes are in, None says that there may
        be some when the next outcome has come.

        Raises DeviceError when no device is left or one refuses for another reason than the candidate's own, and
        EnvironmentFaultError when the host's disk is full.
        """
        under_way, ended = 0, False
        while True:
            while not ended and under_way < self._depth:
                plans = propose(self._batch)
                if plans is None:
                    break
                ended = not plans
                if plans:
                    under_way += 1
                    self._threads.submit(self._run, self._with_defaults(plans))
            if not under_way:
                return
            item = self._arrived.get()
            if isinstance(item, Outcome):
                yield item
            elif isinstance(item, BaseException):
                raise item
            else:
                under_way -= 1

    def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one batch, in a thread of its own

    def _with_defaults(self, plans: Sequence[Plan]) -> list[Plan]:
        """The plans, after the plain loops of kernels that are new."""
        given = {plan.workload: plan for plan in plans if plan.is_default}
        defaults = []
        for plan in plans:
            if plan.workload not in self._known.asked and (plan.is_default or self._plain_first(plan)):
                self._known.asked.add(plan.workload)
                plain = Plan(plan.workload, plan.name, plan.kernel, source="default", mode="default")
                defaults.append(given.get(plan.workload, plain))
        new = {plan.workload for plan in defaults}
        return defaults + [plan for plan in plans if not (plan.is_default and plan.workload in new)]

    def _run(self, plans: Sequence[Plan]) -> None:
        try:
            begun = time.perf_counter()
            built = self._build(plans, uuid.uuid4().hex[:12])
            with self._known.lock:
                self.build_s += time.perf_counter() - begun
            if built and not self._stopped.is_set():
                self._pool.submit(lambda device, lease: self._time(built, device, lease)).result()
        except BaseException as error:
            self._arrived.put(error)
        self._arrived.put(_DONE)

    def _build(self, plans: Sequence[Plan], batch: str) -> list[_Built]:
        """Compile in groups that share a library; failures are outcomes at once."""
        groups = [plans[start : start + self._group] for start in range(0, len(plans), self._group)]
        jobs = [(group, *self._submit(group)) for group in groups]
        built: list[_Built] = []
        for group, output, future in jobs:
            reply = future.result()
            if "error" in reply and len(group) > 1 and not self._stopped.is_set():
                # The worker was lost, with the group: whose fault it was shows when each is built alone.
                for plan in group:
                    single, alone = self._submit([plan])
                    built += self._collect([plan], single, alone.result(), batch)
            else:
                built += self._collect(group, output, reply, batch)
        return built

    def _submit(self, plans: Sequence[Plan]) -> tuple[Path, Future[dict[str, Any]]]:
        output = self._builders.new_file(".so")
        items = [
            {"kernel": str(plan.kernel), "sketch": plan.sketch, "decisions": plan.decisions, "trace": plan.trace}
            for plan in plans
        ]
        return output, self._builders.submit({"do": "library", "items": items, "output": str(output)})

    def _collect(self, plans: Sequence[Plan], output: Path, reply: dict[str, Any], batch: str) -> list[_Built]:
        """What a worker's reply says of each plan."""
        if "error" in reply:
            _refuse_full_disk(reply["error"])
            for plan in plans:
                self._arrived.put(Outcome(plan, None, Failure(FailureKind.BUILD, reply["error"]), batch=batch))
            return []
        library = output.read_bytes() if output.exists() else b""
        output.unlink(missing_ok=True)
        built = []
        for plan, item in zip(plans, reply["items"], strict=True):
            if "error" in item:
                failure = Failure(FailureKind(item["failure"]), item["error"])
                self._arrived.put(Outcome(plan, None, failure, batch=batch))
                continue
            specs = tuple(
                TensorSpec(f"arg{index}", ARGUMENT_TYPES[dtype], tuple(shape))
                for index, (dtype, shape) in enumerate(item["arguments"])
            )
            candidate = Candidate(
                ModuleKind.TVM_KERNEL,
                library,
                specs,
                plan.name,
                symbol=item["symbol"],
                check=True,
                uniform_args=tuple(item["uniform_args"]),
            )
            decisions = tuple(tuple(each) if isinstance(each, list) else each for each in item["decisions"])
            built.append(_Built(plan, candidate, decisions, item["trace"], batch))
        return built

    # -- on a device, in a thread of the pool

    def _time(self, todo: list[_Built], device: Device, lease: Lease) -> None:
        """Time what is left of a batch; what was answered is removed from it, so that another device need not."""
        board = self._known.boards.setdefault(device.name, _Board(device.name))
        begun = time.perf_counter()
        try:
            while todo:
                # Plain loops by themselves: what comes after has their deadline and their answer to keep to.
                chunk = [each for each in todo if each.plan.is_default] or todo
                self._time_some(todo, chunk[: self._control_every], board, device, lease)
        finally:
            with self._known.lock:
                self.run_s += time.perf_counter() - begun

    def _time_some(
        self, todo: list[_Built], chunk: Sequence[_Built], board: _Board, device: Device, lease: Lease
    ) -> None:
        control = self._control(chunk, board)
        order: list[_Built | None] = [*([None] if control is not None else []), *chunk]
        candidates = [self._limited(each) for each in chunk]
        if control is not None:
            candidates.insert(0, dataclasses.replace(control.candidate, check=False, deadline_us=0.0))

        def take(index: int, measurement: Measurement) -> None:
            _refuse_missing_runtime(measurement, device)
            each = order[index]
            if each is None:
                assert control is not None
                self._calibrate(control, measurement, board)
                return
            todo.remove(each)
            board.since += 1
            self._arrived.put(self._judge(each, measurement, board))

        slowest_us = max(candidate.deadline_us for candidate in candidates)
        # Plain loops are slow and seldom chosen: a run or two of a slow kernel tell.
        protocol = self._brief if chunk[0].plan.is_default else self._protocol
        device.measure(
            candidates,
            protocol,
            runtime_library=self._library,
            lease=lease,
            candidate_timeout_s=timeout_s_of(protocol) + 2.0 * slowest_us / 1e6,
            on_result=take,
        )

    def _limited(self, built: _Built) -> Candidate:
        """A candidate with the deadline that its kernel's incumbent sets."""
        with self._known.lock:
            incumbent = self._known.incumbents.get(built.plan.workload)
        if incumbent is None:
            return built.candidate
        return dataclasses.replace(
            built.candidate, deadline_us=max(_DEADLINE_FLOOR_US, _DEADLINE_FACTOR * incumbent.us)
        )

    def _control(self, chunk: Sequence[_Built], board: _Board) -> _Incumbent | None:
        """The incumbent to time again: of the chunk's longest-running kernel, or of all; None when it is not due."""
        with self._known.lock:
            known = self._known.incumbents
            mine = {each.plan.workload: known[each.plan.workload] for each in chunk if each.plan.workload in known}
            choices = list((mine or known).values())
        if not choices:
            return None
        control = max(choices, key=lambda incumbent: incumbent.us)
        foreign = control.device != board.name and not board.calibrated
        return control if foreign or board.since + len(chunk) > self._control_every else None

    def _calibrate(self, control: _Incumbent, measurement: Measurement, board: _Board) -> None:
        """Take in how long the incumbent takes now. A timing that is not to be trusted changes nothing."""
        if not measurement.ok or measurement.verdict not in {Verdict.OK, Verdict.CONTENDED}:
            return
        ratio = self._us(measurement) / control.us
        if not 1.0 / _DRIFT_FACTOR <= ratio <= _DRIFT_FACTOR:
            return
        board.since, board.calibrated = 0, True
        board.ratio = ratio if abs(ratio - 1.0) > _DRIFT_NOTED or control.device != board.name else 1.0

    def _us(self, measurement: Measurement) -> float:
        """CPU time, which other load leaves alone; on several threads only the wall shows what parallel loops gain."""
        return measurement.cpu_median_us if self._protocol.threads == 1 else measurement.wall_median_us

    def _judge(self, built: _Built, measurement: Measurement, board: _Board) -> Outcome:
        plan = built.plan
        failure = failure_of(measurement)
        us = None if failure is not None else self._us(measurement) / board.ratio
        with self._known.lock:
            expected = self._known.answers.get(plan.workload)
            if failure is None and expected is not None and (words := difference(expected, measurement.sums)):
                failure, us = Failure(FailureKind.WRONG, words), None
            if us is not None:
                if plan.is_default:
                    self._known.answers.setdefault(plan.workload, measurement.sums)
                best = self._known.incumbents.get(plan.workload)
                if best is None or us < best.us:
                    self._known.incumbents[plan.workload] = _Incumbent(us, built.candidate, board.name)
        return Outcome(
            plan,
            us,
            failure,
            measurement,
            board.name,
            board.ratio - 1.0,
            checked=expected is not None,
            decisions=built.decisions,
            trace=built.trace,
            batch=built.batch,
        )


def difference(expected: Sequence[float], found: Sequence[float]) -> str:
    """How the sums of one answer (Measurement.sums) differ from those of another; "" when they agree."""
    if len(expected) != len(found):
        return f"{len(found) // 2} pieces of arguments instead of {len(expected) // 2}"
    worst = 0.0
    for index in range(0, len(expected), 2):
        (total, size), (other, other_size) = expected[index : index + 2], found[index : index + 2]
        if math.isinf(size) or math.isinf(other_size):
            if size != other_size:
                return "values that are no numbers in one answer and not in the other"
            continue
        off = max(abs(total - other), abs(size - other_size)) / max(size, other_size, 1e-6)
        worst = max(worst, off)
    return f"an answer that is off by {worst:.2g} of its size" if worst > _ANSWER_TOLERANCE else ""


def _refuse_full_disk(words: str) -> None:
    if f"[Errno {errno.ENOSPC}]" in words or f"[Errno {errno.EDQUOT}]" in words:
        raise EnvironmentFaultError(
            "a candidate could not be written on this host",
            why=words,
            fix="free space in the temporary folder ($TMPDIR); what was measured is stored, and tuning goes on from it",
            reason="DISK_FULL",
        )


def _refuse_missing_runtime(measurement: Measurement, device: Device) -> None:
    if measurement.error.startswith("RuntimeMissingError"):
        raise DeviceError(
            f"{device.name} cannot run TVM's kernels",
            why=measurement.error,
            fix="pip install 'tailorbird[agent-tvm]' there and restart its agent",
            reason="RUNTIME_MISSING",
        )
