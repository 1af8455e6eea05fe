"""gRPC errors as DeviceErrors: what was attempted, why it failed, what to do."""

from __future__ import annotations

from typing import Final

import grpc

from tailorbird.device.address import Address
from tailorbird.errors import DeviceError, DeviceUnreachableError, InputShapeError, LeaseError, TailorbirdError
from tailorbird.wire import error_info

#: The connection failed, or the agent said that it is leaving: either way nobody is there to ask.
_GONE: Final = frozenset({"", "STOPPING"})
_LEASE: Final = frozenset({"LEASE_HELD", "LEASE_LOST", "LEASE_REQUIRED"})

#: What helps when the agent itself did not say.
_FIXES: Final = {
    "LEASE_HELD": "wait until the holder releases the device, or ask them to",
    "LEASE_LOST": "take a new lease and measure again",
    "LEASE_REQUIRED": "take a lease first",
    "BLOB_CORRUPT": "push again; if it happens twice, the bundle was damaged after packing: compile it again",
    "DISK_FULL": "free space on the device",
    "BLOB_MISSING": "push the bundle's blobs first",
    "NOT_STAGED": "stage the bundle first",
    "NO_PREVIOUS": "deploy another bundle instead",
    "AGENT_TOO_OLD": "update the agent on the device",
    "WORKER_BUSY": "send fewer requests at once, or retry later",
    "PERMISSION_DENIED": "run as the user who owns the agent",
}


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if callable(getattr(error, "code", None)) else grpc.StatusCode.UNKNOWN
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def is_transient(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed soon: the connection failed or the agent is leaving, nothing was refused."""
    return _code(error) is grpc.StatusCode.UNAVAILABLE and error_info(error)[0] in _GONE


def device_error(error: grpc.RpcError, what: str, address: Address) -> TailorbirdError:
    """The exception to raise for a failed call; `what` is a sentence such as "cannot stage the bundle"."""
    code = _code(error)
    reason, fix = error_info(error)
    details = str(error.details() or "") if callable(getattr(error, "details", None)) else str(error)
    if reason == "INPUT_INVALID":
        return InputShapeError(what, why=details, fix=fix, reason=reason)
    if reason in _LEASE:
        return LeaseError(what, why=details, fix=fix or _FIXES[reason], reason=reason)
    if reason not in _GONE:
        return DeviceError(what, why=details, fix=fix or _FIXES.get(reason, ""), reason=reason)
    if code is grpc.StatusCode.UNAVAILABLE:
        return DeviceUnreachableError(
            what,
            why=f"no agent answers at {address}: {details}",
            fix="start it with `tailorbird-agent run`, or check the address with `tailorbird devices`",
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeviceError(
            what,
            why=f"the agent at {address} did not answer in time",
            fix="look at its state with `tailorbird devices`, or allow more time",
            reason="DEADLINE",
        )
    return DeviceError(what, why=f"{code.name}: {details}", reason=code.name)
