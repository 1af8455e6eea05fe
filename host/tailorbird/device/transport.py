"""Calls with deadlines, retries where they are safe, and one error tree.

A call is repeated only when the connection failed and a repetition cannot do harm: reads, and calls that carry a
request_id, for which the agent returns its first answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from tailorbird import wire
from tailorbird.device.address import Address
from tailorbird.device.failure import device_error, is_transient

_PAUSES_S = (0.05, 0.2, 0.5, 1.2)  # together more than the longest time a channel waits before it connects again
_CONTROL_BYTES = 1 << 20
_INFERENCE_BYTES = 16 << 20


def _options(limit_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.max_send_message_length", limit_bytes),
        ("grpc.max_receive_message_length", limit_bytes),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A private pool: with the process-wide one, a closed Device's channel state would be seen by the next.
        ("grpc.use_local_subchannel_pool", 1),
    ]


class Transport:
    """The two channels to one agent. Usable from several threads."""

    def __init__(self, address: Address, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.address = address
        self._sleep = sleep
        self._control_channel = grpc.insecure_channel(f"unix:{address.control}", _options(_CONTROL_BYTES))
        self._inference_channel: grpc.Channel | None = None
        self._control = wire.agent_stub(self._control_channel)
        self._inference: Any = None

    def call(
        self, method: str, request: Any, *, what: str, timeout_s: float, retry: bool = True, patience_s: float = 0.0
    ) -> Any:
        """One unary call of AgentService within timeout_s, retries included. Raises DeviceError.

        patience_s: how long an agent that is starting again is waited for, at least the usual two seconds.
        """
        end = time.monotonic() + timeout_s
        more = max(0, math.ceil((patience_s - sum(_PAUSES_S)) / _PAUSES_S[-1]))
        for pause in (*_PAUSES_S, *more * _PAUSES_S[-1:], None) if retry else (None,):
            try:
                return getattr(self._control, method)(request, timeout=max(end - time.monotonic(), 0.001))
            except grpc.RpcError as error:
                if pause is None or not is_transient(error) or time.monotonic() + pause >= end:
                    raise device_error(error, what, self.address) from error
            self._sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def begin(self, method: str, request: Any, *, timeout_s: float) -> Any:
        """Start one unary call that may take long; a grpc.Future, whose result() raises grpc.RpcError."""
        return getattr(self._control, method).future(request, timeout=timeout_s)

    def stream(self, method: str, request: Any, *, what: str, timeout_s: float | None) -> Iterator[Any]:
        """Messages of a server stream; timeout_s bounds the whole stream, None only for watches. Raises DeviceError."""
        call = getattr(self._control, method)(request, timeout=timeout_s)
        try:
            yield from call
        except grpc.RpcError as error:
            raise device_error(error, what, self.address) from error
        finally:
            call.cancel()

    def upload(self, messages: Iterator[Any], *, timeout_s: float) -> Any:
        """One UploadBlobs stream. Raises grpc.RpcError: the caller knows whether to resume."""
        return self._control.UploadBlobs(messages, timeout=timeout_s)

    def infer(self, method: str, request: Any, *, what: str, timeout_s: float) -> Any:
        """One unary call of the Open Inference Protocol, never repeated. Raises DeviceError."""
        if self._inference is None:
            self._inference_channel = grpc.insecure_channel(
                f"unix:{self.address.inference}", _options(_INFERENCE_BYTES)
            )
            self._inference = wire.inference_stub(self._inference_channel)
        try:
            return getattr(self._inference, method)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise device_error(error, what, self.address) from error

    def close(self) -> None:
        """Close both channels; calls in flight are cancelled."""
        self._control_channel.close()
        if self._inference_channel is not None:
            self._inference_channel.close()
