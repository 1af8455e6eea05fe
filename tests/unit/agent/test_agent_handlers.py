"""The two layers in front of every method: who may call it, and where its exceptions end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from agentkit.process import refusal

from tailorbird_agent.authz import Role, RoleGate
from tailorbird_agent.errors import StoreError
from tailorbird_agent.handlers import Activity, Door, ErrorBoundary

METHODS = ("unary", "server_stream", "client_stream", "both_streams")


class Echo(grpc.GenericRpcHandler):
    """Methods of all four kinds under /echo/; a request b"refuse" or b"break" makes them fail."""

    def service(self, handler_call_details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return judged(request)

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            yield b"first"
            yield judged(request)

        async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
            return b"".join([judged(each) async for each in requests])

        async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async for each in requests:
                yield judged(each)

        return {
            "/echo/unary": grpc.unary_unary_rpc_method_handler(answer),
            "/echo/server_stream": grpc.unary_stream_rpc_method_handler(stream),
            "/echo/client_stream": grpc.stream_unary_rpc_method_handler(gather),
            "/echo/both_streams": grpc.stream_stream_rpc_method_handler(echo),
        }.get(handler_call_details.method)


def judged(request: bytes) -> bytes:
    if request == b"refuse":
        raise StoreError("DISK_FULL", "Too much.")
    if request == b"break":
        raise RuntimeError("the secret insides")
    return request


def with_server(
    path: Path, allowed: dict[str, frozenset[Role]], use: Callable[[grpc.aio.Channel, Activity], Awaitable[Any]]
) -> Any:
    async def run() -> Any:
        activity = Activity()
        server = grpc.aio.server(interceptors=(ErrorBoundary(activity, Door()), RoleGate(allowed)))
        server.add_generic_rpc_handlers((Echo(),))
        server.add_insecure_port(f"unix:{path}")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
                return await use(channel, activity)
        finally:
            await server.stop(0)

    return asyncio.run(run())


async def call(channel: grpc.aio.Channel, method: str, request: bytes) -> list[bytes]:
    if method == "unary":
        return [await channel.unary_unary("/echo/unary")(request, timeout=10)]
    if method == "server_stream":
        return [each async for each in channel.unary_stream("/echo/server_stream")(request, timeout=10)]
    if method == "client_stream":
        return [await channel.stream_unary("/echo/client_stream")(iter([request]), timeout=10)]
    return [each async for each in channel.stream_stream("/echo/both_streams")(iter([request]), timeout=10)]


EVERYBODY = {f"/echo/{method}": frozenset(Role) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_every_kind_are_let_through_unchanged(tmp_path: Path, method: str) -> None:
    async def use(channel: grpc.aio.Channel, activity: Activity) -> list[bytes]:
        return (await call(channel, method, b"hello"))[-1:]

    assert with_server(tmp_path / "s", EVERYBODY, use) == [b"hello"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("allowed", [{}, {f"/echo/{method}": frozenset({Role.TUNER}) for method in METHODS}])
def test_a_method_without_a_row_or_for_others_is_denied(tmp_path: Path, method: str, allowed: Any) -> None:
    async def use(channel: grpc.aio.Channel, activity: Activity) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method, b"hello")
        return caught.value

    error = with_server(tmp_path / "s", allowed, use)
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert refusal(error).metadata["method"] == f"/echo/{method}"


@pytest.mark.parametrize("method", METHODS)
def test_a_refusal_carries_its_reason_and_its_fix(tmp_path: Path, method: str) -> None:
    async def use(channel: grpc.aio.Channel, activity: Activity) -> tuple[grpc.aio.AioRpcError, Activity]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method, b"refuse")
        return caught.value, activity

    error, activity = with_server(tmp_path / "s", EVERYBODY, use)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details().endswith("Too much.")
    assert refusal(error).reason == "DISK_FULL"
    assert activity.idle_s >= 0


@pytest.mark.parametrize("method", METHODS)
def test_our_own_mistake_is_an_incident_that_shows_nothing_of_our_insides(
    tmp_path: Path, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def use(channel: grpc.aio.Channel, activity: Activity) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel, method, b"break")
        return caught.value

    with caplog.at_level(logging.ERROR):
        error = with_server(tmp_path / "s", EVERYBODY, use)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    incident = refusal(error).metadata["incident"]
    assert incident in error.details()
    (record,) = [record for record in caplog.records if incident in record.getMessage()]
    assert record.exc_info is not None
    assert "the secret insides" in str(record.exc_info[1])


def test_an_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async def use(channel: grpc.aio.Channel, activity: Activity) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/echo/none")(b"", timeout=10)
        return caught.value.code()

    assert with_server(tmp_path / "s", EVERYBODY, use) is grpc.StatusCode.UNIMPLEMENTED


def test_idle_time_counts_from_the_end_of_the_last_call() -> None:
    now = [0.0]
    activity = Activity(lambda: now[0])
    now[0] = 5.0
    assert activity.idle_s == 5.0
    with activity:
        now[0] = 9.0
        assert activity.idle_s == 0.0
    now[0] = 10.0
    assert activity.idle_s == 1.0
