"""A lease on a device, renewed by a thread until it is released."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import grpc

from tailorbird import wire
from tailorbird.device.failure import device_error
from tailorbird.device.transport import Transport
from tailorbird.errors import DeviceError, LeaseError, TailorbirdError
from tailorbird.types import LeaseGrant

_CALL_S = 5.0
#: While waiting in line: how soon giving up is noticed, and how often the agent is asked who holds the device now.
_POLL_S = 0.25
_ASK_S = 5.0

#: Called with the holder's name when the wait begins and whenever another one has the device.
OnWait = Callable[[str], None]


class LeaseBook(Protocol):
    """Where held leases are written down, so that a lease outlived by its process can be seen (see db.Store)."""

    def lease_taken(self, device: str, grant: LeaseGrant) -> None:
        """A lease was granted or extended."""

    def lease_released(self, lease_id: str) -> None:
        """A lease ended."""


class Lease:
    """The right to measure on a device. A context manager; leaving it gives the device back.

    `token` goes with every measuring call: the agent refuses a token older than its newest lease, so a holder that lost
    its lease without noticing cannot disturb the next one.
    """

    def __init__(
        self,
        transport: Transport,
        device: str,
        holder: str,
        duration_s: float,
        book: LeaseBook | None = None,
        *,
        wait_s: float = 0.0,
        priority: int = 0,
        on_wait: OnWait | None = None,
        give_up: Callable[[], bool] | None = None,
    ) -> None:
        """Acquire, at once or after waiting in line for up to wait_s.

        The higher priority (-100 to 100) is served first, equal ones in the order they came. give_up is asked four
        times a second whether to stop waiting.

        Raises LeaseError when somebody else holds the device, after wait_s or having given up.
        """
        self._transport = transport
        self._device = device
        self._duration_s = duration_s
        self._book = book
        self._ended = threading.Event()
        self._lost: DeviceError | None = None
        request = wire.requests.AcquireLeaseRequest(
            request_id=uuid.uuid4().hex, holder=holder, duration=wire.duration(duration_s), priority=priority
        )
        # Counted from before the call: the agent counts from somewhere within it.
        asked = time.monotonic()
        what = f"cannot take {device} for measuring"
        try:
            response = transport.call("AcquireLease", request, what=what, timeout_s=_CALL_S)
        except LeaseError as held:
            if wait_s <= 0.0 or held.reason != "LEASE_HELD":
                raise
            request.wait.CopyFrom(wire.duration(wait_s))
            response = self._wait(request, held, wait_s, on_wait, give_up)
            asked = time.monotonic() - _POLL_S
        self.grant = wire.lease_from(response.lease)
        self._valid_until = asked + duration_s
        self._thread = threading.Thread(target=self._renew_until_ended, name=f"lease-{device}", daemon=True)
        self._thread.start()
        try:
            self._write_down()
        except TailorbirdError:
            self.release()
            raise

    def _wait(
        self,
        request: Any,
        held: LeaseError,
        wait_s: float,
        on_wait: OnWait | None,
        give_up: Callable[[], bool] | None,
    ) -> Any:
        """Stay in line; `held` is raised when that is given up."""
        call = self._transport.begin("AcquireLease", request, timeout_s=wait_s + _CALL_S)
        said, ask_at = "", 0.0
        while True:
            try:
                return call.result(timeout=_POLL_S)
            except grpc.FutureTimeoutError:
                pass
            except grpc.RpcError as error:
                raise device_error(error, held.what, self._transport.address) from error
            if give_up is not None and give_up():
                call.cancel()
                raise held
            if on_wait is not None and time.monotonic() >= ask_at:
                ask_at = time.monotonic() + _ASK_S
                holder = self._holder_now()
                if holder and holder != said:
                    on_wait(holder)
                    said = holder

    def _holder_now(self) -> str:
        status = self._transport.call(
            "GetStatus",
            wire.requests.GetStatusRequest(),
            what=f"cannot ask who holds {self._device}",
            timeout_s=_CALL_S,
        )
        return str(status.lease.holder) if status.HasField("lease") else ""

    @property
    def token(self) -> int:
        """Fencing token. Raises LeaseError when the lease was lost."""
        self.check()
        return self.grant.fencing_token

    @property
    def holder(self) -> str:
        """Name given by whoever took the lease."""
        return self.grant.holder

    @property
    def wanted(self) -> bool:
        """Whether others wait for the device whose priority is at least ours; known from the last renewal."""
        return self.grant.waiting > 0

    def check(self) -> None:
        """Raises LeaseError when the lease was lost or released."""
        if self._lost is not None:
            raise LeaseError(
                f"the lease on {self._device} was lost", why=self._lost.why, fix=self._lost.fix, reason="LEASE_LOST"
            ) from self._lost
        if time.monotonic() >= self._valid_until:
            raise LeaseError(
                f"the lease on {self._device} has run out",
                why="the agent could not be asked to extend it",
                fix="take a new lease and measure again",
                reason="LEASE_LOST",
            )
        if self._ended.is_set():
            raise LeaseError(f"the lease on {self._device} was released", reason="LEASE_LOST")

    def _renew_until_ended(self) -> None:
        # Thirds: two renewals may fail before the lease runs out.
        while not self._ended.wait(self._duration_s / 3):
            asked = time.monotonic()
            try:
                response = self._transport.call(
                    "RenewLease",
                    wire.requests.RenewLeaseRequest(
                        lease_id=self.grant.lease_id, duration=wire.duration(self._duration_s)
                    ),
                    what=f"cannot renew the lease on {self._device}",
                    timeout_s=min(_CALL_S, self._duration_s / 3),
                )
            except LeaseError as error:
                self._lost = error
                return
            except DeviceError as error:
                if time.monotonic() >= self._valid_until:
                    self._lost = error
                    return
                continue
            self.grant = wire.lease_from(response.lease)
            self._valid_until = asked + self._duration_s
            with contextlib.suppress(TailorbirdError):  # the book is for people; the lease itself is sound
                self._write_down()

    def _write_down(self) -> None:
        if self._book is not None:
            self._book.lease_taken(self._device, self.grant)

    def release(self) -> None:
        """Give the device back. Never raises for a lease that is already gone: it would hide the error before it."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(_CALL_S)
        try:
            self._transport.call(
                "ReleaseLease",
                wire.requests.ReleaseLeaseRequest(lease_id=self.grant.lease_id),
                what=f"cannot release {self._device}",
                timeout_s=_CALL_S,
            )
        except DeviceError:
            return  # it expires by itself; the book keeps the entry until then
        if self._book is not None:
            self._book.lease_released(self.grant.lease_id)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
