"""Several devices as one: jobs run on whichever is free first, and run again elsewhere when their device is lost.

    with Devices().pool("class:rpi4", priority=1) as pool:
        futures = [pool.submit(lambda device, lease: device.measure(batch, KERNEL, lease=lease)) for batch in batches]

Each device has a thread, which takes the device's lease while there is something to do. Programs that share devices
meet in the agents: an agent serves its line by priority and then in order, so there is no server in between and
nothing to clean up after a program that died; its lease ends by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, TypeVar

from tailorbird.device.client import Device, whoami
from tailorbird.device.lease import Lease
from tailorbird.errors import DeviceError, DeviceUnreachableError, LeaseError, TailorbirdError

R = TypeVar("R")
Work = Callable[[Device, Lease], R]

#: Reasons of errors after which the device, or our right to it, is gone; the job may well succeed elsewhere.
_LOST = frozenset({"LEASE_LOST", "STOPPING", "DEADLINE", "CANCELLED", "UNKNOWN", "UPLOAD_STALLED", "RESPONSE_INVALID"})
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_WAIT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Something that happened to a device of the pool, for people.

    waiting: somebody else holds it; taken: we hold it; yielded: given back because others wait; lost: it went away
    with our lease or does not answer; refused: it may not take part.
    """

    kind: Literal["waiting", "taken", "yielded", "lost", "refused"]
    device: str
    message: str


@dataclass(slots=True, eq=False)
class _Job:
    work: Work[Any]
    future: Future[Any]
    losses: int = 0


@dataclass(slots=True, eq=False)
class _Member:
    """A device of the pool. error and since_s: why and since when it cannot be used, None while it can."""

    name: str
    error: TailorbirdError | None = None
    since_s: float = 0.0
    refused: bool = False
    thread: threading.Thread | None = field(default=None, repr=False)


class DevicePool:
    """Runs jobs on devices under leases. A context manager; leaving it waits for what runs and drops what does not.

    lease_s: how long a device stays taken after this program was killed. turn_s: after so long under one lease the
    device goes to others who wait for it, None never. linger_s: how long a lease is kept for the next job. patience_s:
    after so long without any device the jobs fail. attempts: a job whose devices were lost so often fails: it may be
    what ends them. admit: asked once for each connection; a TailorbirdError it raises keeps the device out.
    """

    def __init__(
        self,
        names: Sequence[str],
        connect: Callable[[str], Device],
        *,
        holder: str = "",
        priority: int = 0,
        lease_s: float = 15.0,
        turn_s: float | None = 60.0,
        linger_s: float = 5.0,
        patience_s: float = 60.0,
        attempts: int = 3,
        admit: Callable[[Device], None] = lambda _: None,
        on_event: Callable[[PoolEvent], None] = lambda _: None,
    ) -> None:
        self._connect = connect
        self._holder = holder or whoami()
        self._priority = priority
        self._lease_s, self._turn_s, self._linger_s = lease_s, turn_s, linger_s
        self._patience_s, self._attempts = patience_s, attempts
        self._admit = admit
        self._on_event = on_event
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._members = [_Member(name) for name in names]
        for member in self._members:
            member.thread = threading.Thread(
                target=self._serve, args=(member,), name=f"pool-{member.name}", daemon=True
            )
            member.thread.start()

    @property
    def names(self) -> tuple[str, ...]:
        """The devices of the pool."""
        return tuple(member.name for member in self._members)

    def submit(self, work: Work[R]) -> Future[R]:
        """Queue a job; it is called with a device and a lease on it, in a thread of the pool, oldest first.

        The future raises what the job raises; DeviceError when its devices were lost too often, and
        DeviceUnreachableError, or the reason for their refusal, when there is no device left.
        """
        job: _Job = _Job(work, Future())
        with self._changed:
            if self._closed:
                raise DeviceError("the device pool is closed", reason="POOL_CLOSED")
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def close(self) -> None:
        """Drop jobs that have not begun, wait for those that have, give the devices back."""
        with self._changed:
            self._closed = True
            dropped = list(self._jobs)
            self._jobs.clear()
            self._changed.notify_all()
        for job in dropped:
            if not job.future.cancel():  # it ran before, on a device that was lost
                job.future.set_exception(DeviceError("the device pool was closed", reason="POOL_CLOSED"))
        for member in self._members:
            if member.thread is not None:
                member.thread.join()

    def __enter__(self) -> DevicePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- one device's thread

    def _serve(self, member: _Member) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._has_work(None):
            try:
                with self._connect(member.name) as device:
                    self._admit(device)
                    member.error = None
                    pause_s = _FIRST_PAUSE_S
                    while self._has_work(self._linger_s):
                        self._hold(member, device)
            except TailorbirdError as error:
                member.refused = not _is_lost(error)
                self._out(member, error)
                if member.refused:
                    return
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _hold(self, member: _Member, device: Device) -> None:
        """Take the lease and work under it. Raises TailorbirdError when the device is lost."""
        try:
            lease = device.lease(
                self._holder,
                self._lease_s,
                wait_s=_WAIT_S,
                priority=self._priority,
                on_wait=lambda holder: self._tell("waiting", member, f"{holder} holds it"),
                give_up=lambda: not self._jobs or self._closed,
            )
        except LeaseError as error:
            if error.reason == "LEASE_HELD":  # given up: another device took the job
                return
            raise
        with lease:
            self._tell("taken", member, f"fencing token {lease.grant.fencing_token}")
            until_s = None if self._turn_s is None else time.monotonic() + self._turn_s
            while (job := self._take()) is not None:
                self._run(job, device, lease)
                if lease.wanted and until_s is not None and time.monotonic() >= until_s:
                    self._tell("yielded", member, "others wait for it")
                    return

    def _run(self, job: _Job, device: Device, lease: Lease) -> None:
        """Run one job. Raises TailorbirdError when the device was lost; the job is in the queue again then."""
        try:
            result = job.work(device, lease)
        except TailorbirdError as error:
            if not _is_lost(error):
                job.future.set_exception(error)
                return
            self._again(job, error)
            raise
        except Exception as error:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)

    # -- the queue

    def _has_work(self, linger_s: float | None) -> bool:
        """Wait for a job: for ever, or so long. False when there is none, or the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed, linger_s)
            return bool(self._jobs) and not self._closed

    def _take(self) -> _Job | None:
        """The oldest job that nobody cancelled; None when none comes within linger_s."""
        with self._changed:
            while self._changed.wait_for(lambda: self._jobs or self._closed, self._linger_s):
                if self._closed:
                    return None
                job = self._jobs.popleft()
                if job.losses or job.future.set_running_or_notify_cancel():
                    return job
            return None

    def _again(self, job: _Job, error: TailorbirdError) -> None:
        """Put a job back at the head of the queue, unless it has lost too many devices."""
        job.losses += 1
        with self._changed:
            if job.losses < self._attempts and not self._closed:
                self._jobs.appendleft(job)
                self._changed.notify_all()
                return
        words = f"the device was lost {job.losses} times while it ran"
        job.future.set_exception(
            DeviceError(f"a job was given up: {words}", why=str(error.what), fix=error.fix, reason="DEVICE_LOST")
        )

    # -- devices that are out

    def _out(self, member: _Member, error: TailorbirdError) -> None:
        """Note that a device cannot be used; without any device left, what is queued fails."""
        self._tell(
            "refused" if member.refused else "lost", member, error.what + (f": {error.why}" if error.why else "")
        )
        now = time.monotonic()
        with self._changed:
            if member.error is None:
                member.since_s = now
            member.error = error
            if any(each.error is None for each in self._members):
                return
            waiting = [each for each in self._members if not each.refused]
            if waiting and now - max(each.since_s for each in waiting) < self._patience_s:
                return
            failed = list(self._jobs)
            self._jobs.clear()
        for job in failed:
            if job.losses or job.future.set_running_or_notify_cancel():
                job.future.set_exception(self._no_device_left(bool(waiting)))

    def _no_device_left(self, unreachable: bool) -> TailorbirdError:
        if len(self._members) == 1 and self._members[0].error is not None:
            return self._members[0].error
        kind = DeviceUnreachableError if unreachable else DeviceError
        return kind(
            f"none of the devices {', '.join(self.names)} can be used",
            why="; ".join(f"{each.name}: {each.error.what}" for each in self._members if each.error is not None),
            fix="see `tailorbird devices`; start their agents, or choose others",
        )

    def _tell(
        self, kind: Literal["waiting", "taken", "yielded", "lost", "refused"], member: _Member, words: str
    ) -> None:
        self._on_event(PoolEvent(kind, member.name, words))


def _is_lost(error: TailorbirdError) -> bool:
    return isinstance(error, DeviceUnreachableError) or (isinstance(error, DeviceError) and error.reason in _LOST)
