"""A lease on a device, renewed by a thread until it is released."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from types import TracebackType
from typing import Protocol

from tailorbird import wire
from tailorbird.device.transport import Transport
from tailorbird.errors import DeviceError, LeaseError, TailorbirdError
from tailorbird.types import LeaseGrant

_CALL_S = 5.0


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
        self, transport: Transport, device: str, holder: str, duration_s: float, book: LeaseBook | None = None
    ) -> None:
        """Acquire. Raises LeaseError when somebody else holds the device."""
        self._transport = transport
        self._device = device
        self._duration_s = duration_s
        self._book = book
        self._ended = threading.Event()
        self._lost: DeviceError | None = None
        # Counted from before the call: the agent counts from somewhere within it.
        asked = time.monotonic()
        response = transport.call(
            "AcquireLease",
            wire.requests.AcquireLeaseRequest(
                request_id=uuid.uuid4().hex, holder=holder, duration=wire.duration(duration_s)
            ),
            what=f"cannot take {device} for measuring",
            timeout_s=_CALL_S,
        )
        self.grant = wire.lease_from(response.lease)
        self._valid_until = asked + duration_s
        self._thread = threading.Thread(target=self._renew_until_ended, name=f"lease-{device}", daemon=True)
        self._thread.start()
        try:
            self._write_down()
        except TailorbirdError:
            self.release()
            raise

    @property
    def token(self) -> int:
        """Fencing token. Raises LeaseError when the lease was lost."""
        self.check()
        return self.grant.fencing_token

    @property
    def holder(self) -> str:
        """Name given by whoever took the lease."""
        return self.grant.holder

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
