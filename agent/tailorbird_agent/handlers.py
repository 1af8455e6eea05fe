"""Putting code around a gRPC method, whichever of the four kinds it is, and the boundary where exceptions end."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

import grpc
import grpc.aio

from tailorbird_agent import wire
from tailorbird_agent.errors import AgentError, RequestError

logger = logging.getLogger(__name__)

# Quoted: these are generic in the type stubs and not at run time.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Call = Callable[[Any, Context], Awaitable[Any]]
Stream = Callable[[Any, Context], AsyncIterator[Any]]


def rewrap(
    handler: Handler,
    around_call: Callable[[Call], Call],
    around_stream: Callable[[Stream], Stream],
    deserializer: Callable[[bytes], Any] | None = None,
) -> Handler:
    """The same handler with its behaviour wrapped: `around_stream` for async generators, `around_call` for the rest.

    deserializer: what reads a request from now on, if not the handler's own.
    """
    make: Any
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
        behaviour: Any = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        make = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
    wrapped = around_stream(behaviour) if inspect.isasyncgenfunction(behaviour) else around_call(behaviour)
    result: Handler = make(wrapped, deserializer or handler.request_deserializer, handler.response_serializer)
    return result


class Wrapper(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """An interceptor that wraps each method's handler once and keeps the result."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}

    def wrap(self, method: str, handler: Handler) -> Handler:
        """The handler to use for a method; subclasses say what goes around it."""
        raise NotImplementedError

    async def intercept_service(
        self, continuation: Callable[..., Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Called by gRPC for every call."""
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # no such method on this server: gRPC answers UNIMPLEMENTED
            wrapped = self._wrapped[method] = self.wrap(method, handler)
        return wrapped


class Activity:
    """How many calls run, and since when none does. clock is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running = 0
        self._idle_since_s = clock()

    @property
    def idle_s(self) -> float:
        """Seconds since the last call ended, 0 while one runs."""
        return 0.0 if self._running else self._clock() - self._idle_since_s

    def __enter__(self) -> None:
        self._running += 1

    def __exit__(self, *_: object) -> None:
        self._running -= 1
        self._idle_since_s = self._clock()


class Door:
    """Whether calls are taken. At the end it closes: what comes then is held for a moment and turned away.

    A server that stops cuts calls it has received and not begun, which their callers see as CANCELLED. So they are
    begun, and answered only once the server has told its clients to send no more.
    """

    def __init__(self) -> None:
        self._arrivals = 0
        self._closed = False
        self._turned_away = asyncio.Event()

    async def enter(self) -> None:
        """Pass, while it is open.

        Raises:
            AgentError: STOPPING.
        """
        self._arrivals += 1
        if self._closed:
            await self._turned_away.wait()
            raise AgentError("STOPPING", retry_after_s=1.0)

    async def close(self, *, quiet_s: float, limit_s: float) -> None:
        """Hold calls from now on; returns when none came for quiet_s, after limit_s at the latest."""
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                arrivals = -1
                while arrivals != self._arrivals:
                    arrivals = self._arrivals
                    await asyncio.sleep(quiet_s)

    def turn_away(self) -> None:
        """Answer the calls held, and those still to come."""
        self._turned_away.set()


class ErrorBoundary(Wrapper):
    """Where every exception of a method becomes a status.

    An AgentError becomes its catalogue row with ErrorInfo. Anything else is our mistake: the log gets the traceback,
    the caller an incident id and nothing of our insides. Bytes that are no message of the method are the caller's
    mistake; left to gRPC, each would put a traceback into the log.
    """

    def __init__(self, activity: Activity, door: Door) -> None:
        super().__init__()
        self._activity = activity
        self._door = door

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Catch what reading the request and the method raise."""
        read = _each_read if handler.request_streaming else _read

        def around_call(behaviour: Call) -> Call:
            async def call(request: Any, context: Context) -> Any:
                with self._activity:
                    try:
                        await self._door.enter()
                        return await behaviour(read(request), context)
                    except Exception as error:
                        return await _abort(context, method, error)

            return call

        def around_stream(behaviour: Stream) -> Stream:
            async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
                with self._activity:
                    try:
                        await self._door.enter()
                        async with aclosing(behaviour(read(request), context)) as answers:  # type: ignore[type-var]
                            async for answer in answers:
                                yield answer
                    except Exception as error:
                        await _abort(context, method, error)

            return stream

        return rewrap(handler, around_call, around_stream, _forgiving(method, handler.request_deserializer))


def _forgiving(method: str, deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """Reads a request, or returns the error that tells it cannot be read: raising is only safe inside the boundary."""

    def read(data: bytes) -> Any:
        message = wire.message_of(data, deserializer) if deserializer else data
        if message is None:
            return RequestError("INPUT_INVALID", f"These {len(data)} bytes are no message that {method} takes.")
        return message

    return read


def _read(request: Any) -> Any:
    if isinstance(request, RequestError):
        raise request
    return request


async def _each_read(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _read(request)


async def _abort(context: Context, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, AgentError):
        incident = uuid.uuid4().hex[:12]
        logger.error("incident %s in %s", incident, method, exc_info=error)
        error = AgentError("INTERNAL", f"Incident {incident}.", incident=incident)
    code, text, metadata = wire.status_of(error)
    try:
        await context.abort(code, text, metadata)
    except grpc.aio.InternalError:
        # The caller has gone, and nobody is left to be told. gRPC would put a traceback into the log for each.
        raise asyncio.CancelledError from None
