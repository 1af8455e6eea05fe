"""Thousands of messages of garbage to every method: answered or refused in the words of the catalogue, no incident.

Half are filled at random, half are those with bytes changed. Many are on their way at once. A wait that a message asks
for is real, so such a call has a short deadline of its own: otherwise waiting is all that a run of this does.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from agentkit.bundles import SERVING, X
from agentkit.garbage import fill, mutated
from agentkit.process import TIMEOUT, Agent, output, refusal
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from tailorbird_agent.errors import CATALOGUE
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.inference import open_inference_pb2

#: To each method; the slow suite sends ten times as many.
MESSAGES = int(os.environ.get("TAILORBIRD_TEST_GARBAGE", "2000"))
_IN_FLIGHT = 32
#: For calls that may take as long as they like: those that wait in line, and those that never end.
_PATIENCE_S = 0.05
_GROWTH_BYTES = 32 << 20


def methods() -> Iterator[tuple[str, Any]]:
    for module, socket in ((api, "control"), (open_inference_pb2, "inference")):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield socket, method


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent") / "s") as running:
        running.deploy(SERVING)
        yield running  # on leaving, an incident in its log fails the module


class Sender:
    """Sends bytes to one method; `outcomes` counts what came of them."""

    def __init__(self, channel: grpc.aio.Channel, method: Any, token: int = 0) -> None:
        self._type = GetMessageClass(method.input_type)
        kind = ("stream" if method.client_streaming else "unary", "stream" if method.server_streaming else "unary")
        path = f"/{method.containing_service.full_name}/{method.name}"
        make = getattr(channel, "_".join(kind))
        self._call = make(path, bytes, GetMessageClass(method.output_type).FromString)
        release = f"/{method.containing_service.full_name}/ReleaseLease"
        self._release = channel.unary_unary(release, api.ReleaseLeaseRequest.SerializeToString)
        self._method = method
        self._token = token
        self.outcomes: Counter[str] = Counter()

    async def send_all(self, chance: random.Random, count: int) -> None:
        waiting = (self._message(chance, number) for number in range(count))

        async def lane() -> None:
            for data in waiting:
                await self.send(data)

        await asyncio.gather(*(lane() for _ in range(_IN_FLIGHT)))

    def _message(self, chance: random.Random, number: int) -> bytes:
        message = fill(self._type(), chance)
        if self._token:
            message.fencing_token = self._token  # past the first check
        data = message.SerializeToString()
        return mutated(data, chance) if number % 2 else data

    async def send(self, data: bytes) -> None:
        endless = self._method.name.startswith("Watch")
        try:
            endless |= self._type.FromString(data).wait.ToNanoseconds() > 0
            readable = True
        except AttributeError:  # its messages have no such field
            readable = True
        except DecodeError:
            readable = False
        requests = _stream(data) if self._method.client_streaming else data
        call = self._call(requests, timeout=_PATIENCE_S if endless else TIMEOUT)
        try:
            answer = [each async for each in call] if self._method.server_streaming else await call
            self.outcomes["answered"] += 1
        except grpc.aio.AioRpcError as error:
            if endless and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self.outcomes["waited"] += 1
                return
            info = refusal(error)
            assert info.reason in CATALOGUE
            assert info.reason != "INTERNAL", error.details()
            assert readable or info.reason == "INPUT_INVALID", error.details()
            self.outcomes[info.reason] += 1
        else:
            if isinstance(answer, api.AcquireLeaseResponse):
                await self._release(api.ReleaseLeaseRequest(lease_id=answer.lease.lease_id))


async def _stream(data: bytes) -> Any:
    yield data


async def _send_all(agent: Agent, socket: str, method: Any, token: int, count: int) -> Counter[str]:
    async with grpc.aio.insecure_channel(f"unix:{agent.fields[socket]}") as channel:
        sender = Sender(channel, method, token)
        await sender.send_all(random.Random(f"{method.full_name} {count}"), count)
        return sender.outcomes


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(MESSAGES, id="quick"),
        pytest.param(10 * MESSAGES, id="slow", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
@pytest.mark.parametrize(("socket", "method"), [pytest.param(s, m, id=m.name) for s, m in methods()])
def test_a_message_of_garbage_is_refused_in_the_words_of_the_catalogue(
    agent: Agent, socket: str, method: Any, count: int
) -> None:
    token = agent.lease(seconds=3600).fencing_token if method.name in {"MeasureModules", "UploadBlobs"} else 0
    before = resident_bytes(agent.pid)
    outcomes = asyncio.run(_send_all(agent, socket, method, token, count))
    assert outcomes.total() == count
    assert not token or outcomes["LEASE_LOST"] < count / 4, "the lease was lost, and with it most of the test"
    assert resident_bytes(agent.pid) - before < _GROWTH_BYTES
    lease = agent.status().lease.lease_id
    agent.control.ReleaseLease(api.ReleaseLeaseRequest(lease_id=lease), timeout=TIMEOUT)


@pytest.mark.parametrize("name", ["GetStatus", "WatchStatus", "UploadBlobs"])
def test_bytes_that_are_no_message_are_the_callers_mistake(agent: Agent, name: str) -> None:
    method = api.DESCRIPTOR.services_by_name["AgentService"].methods_by_name[name]

    async def send() -> None:
        async with grpc.aio.insecure_channel(f"unix:{agent.fields['control']}") as channel:
            sender = Sender(channel, method)
            await sender.send(b"\xff\xff")
            assert sender.outcomes == {"INPUT_INVALID": 1}

    asyncio.run(send())


def test_after_all_that_it_serves_what_it_served(agent: Agent) -> None:
    for rung in range(3):
        assert np.allclose(output(agent.infer(X, version=f"r{rung}")), SERVING.answer(X, rung), atol=0.1)
    assert Path(agent.fields["control"]).is_socket()
