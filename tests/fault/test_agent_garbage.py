"""Messages filled at random, to every method: answered or refused in the words of the catalogue, never an incident."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from agentkit.bundles import make_bundle, sample
from agentkit.process import Agent, output, refusal
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tailorbird_agent.errors import CATALOGUE
from tailorbird_api.agent.v1 import agent_service_pb2
from tailorbird_api.inference import open_inference_pb2

MESSAGES = 60
BUNDLE = make_bundle(1)
WORDS = [
    "",
    "toy",
    "r0",
    "x",
    "FP32",
    "INT8",
    "0" * 64,
    BUNDLE.sha256,
    next(iter(BUNDLE.blobs)),
    "../../etc/passwd",
    "\x00",
    "two-channel",
    "é" * 300,
]
NUMBERS = [0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**20]
FLOATS = [0.0, 1.0, -1.0, 1e308, float("inf"), float("nan"), 1e-300]


def fill(message: Message, chance: random.Random, depth: int = 0) -> Message:
    """Set each field to something, or leave it."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.4 or depth > 4:
            continue
        repeated = field.is_repeated
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            for _ in range(chance.randint(1, 3) if repeated else 1):
                target = getattr(message, field.name).add() if repeated else getattr(message, field.name)
                target.SetInParent()
                fill(target, chance, depth + 1)
            continue
        values = [value_of(field, chance) for _ in range(chance.randint(1, 3) if repeated else 1)]
        if repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])
    return message


def value_of(field: FieldDescriptor, chance: random.Random) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return chance.choice(FLOATS)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.randint(0, 9)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.choice([b"", b"{}", b"\xff", BUNDLE.manifest, chance.randbytes(64)])
        return chance.choice(WORDS)
    number = chance.choice(NUMBERS)
    return abs(number) if kind in {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64} else number


def methods() -> Iterator[tuple[str, Any]]:
    for module, socket in ((agent_service_pb2, "control"), (open_inference_pb2, "inference")):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield socket, method


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent") / "s") as running:
        running.deploy(BUNDLE)
        yield running  # on leaving, an incident in its log fails the module


@pytest.mark.parametrize(("socket", "method"), [pytest.param(s, m, id=m.name) for s, m in methods()])
def test_a_message_of_garbage_is_refused_in_the_words_of_the_catalogue(agent: Agent, socket: str, method: Any) -> None:
    chance = random.Random(method.full_name)
    call = getattr(getattr(agent, socket), method.name)
    outcomes = []
    token = agent.lease().fencing_token if method.name in {"MeasureModules", "UploadBlobs"} else 0
    for _ in range(MESSAGES if "Watch" not in method.name else 5):
        message = fill(GetMessageClass(method.input_type)(), chance)
        if token:
            message.fencing_token = token  # past the first check
        try:
            answer = call(iter([message]) if method.client_streaming else message, timeout=10)
            if method.server_streaming:
                if "Watch" in method.name:
                    answer.cancel()
                list(answer)
            outcomes.append("answered")
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.CANCELLED:
                continue
            info = refusal(error)
            assert info.reason in CATALOGUE
            assert info.reason != "INTERNAL", error.details()
            outcomes.append(info.reason)
    assert outcomes or "Watch" in method.name
    assert "LEASE_LOST" not in outcomes or not token
    lease = agent.status().lease.lease_id
    agent.control.ReleaseLease(agent_service_pb2.ReleaseLeaseRequest(lease_id=lease), timeout=10)


def test_after_all_that_it_serves_what_it_served(agent: Agent) -> None:
    x = sample((1, 16), seed=1)
    for rung in range(3):
        assert np.allclose(output(agent.infer(x, version=f"r{rung}")), BUNDLE.answer(x, rung), atol=0.1)
    assert Path(agent.fields["control"]).is_socket()
