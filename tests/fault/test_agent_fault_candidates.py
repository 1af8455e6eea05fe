"""Every way a new bundle can be bad: within ten seconds what was committed serves, and events say why."""

from __future__ import annotations

import json
import os
import signal
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import grpc
import numpy as np
import pytest
from agentkit.bundles import SERVING, Bundle, X, add_blob, canonical, make_bundle
from agentkit.process import TIMEOUT, Agent, infer_request, output, refusal
from worker_rigs import TVM_RUNTIME, build_library

from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_agent.worker.arena import MAX_SLOTS
from tailorbird_api.agent.v1 import agent_service_pb2 as api

LIMIT_S = 10.0
_SLOW_STEPS = 20_000  # each about a microsecond; the manifest promises 50 us in all


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """An agent that serves SERVING, and must serve it again after a test."""
    monkeypatch.setenv("TAILORBIRD_AGENT_WORKER_TIMEOUT_S", "8")
    with Agent(tmp_path / "s") as running:
        running.deploy(SERVING)
        yield running
        response = running.infer_patiently(X)
        assert response.model_version == f"{SERVING.sha256[:12]}/r2"
        assert np.allclose(output(response), SERVING.answer(X, 2), atol=0.1)
        assert running.deployment().active_sha256 == SERVING.sha256


def with_module(bundle: Bundle, data: bytes, rung: int = 2) -> Bundle:
    """The bundle with the module of one rung replaced."""
    manifest = json.loads(bundle.manifest)
    manifest["rungs"][rung]["artifact"]["blob"] = add_blob(bundle, data)
    return Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)


def module(*steps: Step, **tensors: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module"
        save(path, steps, tensors)
        return path.read_bytes()


def original(bundle: Bundle, rung: int = 2) -> bytes:
    return bundle.blobs[json.loads(bundle.manifest)["rungs"][rung]["artifact"]["blob"]["sha256"]]


def slow_module(bundle: Bundle) -> bytes:
    """Right answers, after a long way."""
    weight = np.full((16, 4), 0.25, np.float32)
    bias = np.full(4, bundle.number * 10_000.0 + 200.0, np.float32)
    waste = [Step("add", ("input.0", "input.0"), "waste") for _ in range(_SLOW_STEPS)]
    return module(*waste, Step("affine", ("input.0", "weight", "bias"), "output.0"), weight=weight, bias=bias)


def hungry_module() -> bytes:
    """Asks for more memory than any board has."""
    column, row = np.zeros((200_000, 1), np.float32), np.zeros((1, 200_000), np.float32)
    return module(Step("matmul", ("column", "row"), "output.0"), column=column, row=row)


def flipped(data: bytes) -> bytes:
    """One bit of the last number: the sign of its exponent."""
    return data[:-1] + bytes([data[-1] ^ 0x40])


def with_library(bundle: Bundle, body: str) -> Bundle:
    """The bundle with a rung that is a real shared library; loading it runs this C code."""
    with tempfile.TemporaryDirectory() as folder:
        library = build_library(Path(folder), "module", body).read_bytes()
    changed = with_module(bundle, library)
    manifest = json.loads(changed.manifest)
    manifest["rungs"][2]["artifact"]["runtime"] = "tvm"
    version = metadata.version("apache-tvm")
    manifest["compatible"]["runtimes"].append({"runtime": "tvm", "version": version})
    runtime = {"runtime": "tvm", "version": version, "blob": add_blob(changed, TVM_RUNTIME.read_bytes())}
    return Bundle(bundle.number, bundle.shape, canonical(manifest | {"runtime_blobs": [runtime]}), changed.blobs)


def aarch64_library() -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, 183) + bytes(44)


def reason_of_refusal(agent: Agent, bundle: Bundle) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        agent.deploy(bundle, commit=False)
    return refusal(caught.value).reason


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: make_bundle(3, golden_shift=5.0), "GOLDEN_MISMATCH", id="wrong output"),
        pytest.param(lambda: with_module(make_bundle(3), hungry_module()), "OUT_OF_MEMORY", id="out of memory"),
        pytest.param(lambda: with_module(make_bundle(3), aarch64_library()), "INCOMPATIBLE_TRIPLE", id="wrong CPU"),
        pytest.param(
            lambda: with_module(make_bundle(3), original(make_bundle(3))[:-7]), "MODULE_INVALID", id="truncated"
        ),
        pytest.param(
            lambda: with_module(make_bundle(3), flipped(original(make_bundle(3)))), "GOLDEN_MISMATCH", id="bit flipped"
        ),
        pytest.param(lambda: with_library(make_bundle(3), "raise(SIGSEGV);"), "WORKER_DIED", id="crash"),
        pytest.param(lambda: with_library(make_bundle(3), "for (;;) pause();"), "WORKER_TIMEOUT", id="hang"),
    ],
)
def test_what_cannot_be_right_never_serves(agent: Agent, make: Callable[[], Bundle], reason: str) -> None:
    began = time.monotonic()
    assert reason_of_refusal(agent, make()) == reason
    assert agent.infer(X).model_version.startswith(SERVING.sha256[:12])
    assert time.monotonic() - began < LIMIT_S


@pytest.mark.parametrize("damage", ["truncated", "bit flipped"])
def test_what_the_disk_damaged_never_serves(agent: Agent, damage: str) -> None:
    bundle = make_bundle(4)
    agent.push(bundle)
    blob = json.loads(bundle.manifest)["rungs"][1]["artifact"]["blob"]["sha256"]
    path = agent.state / "blobs" / blob
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "truncated" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(grpc.RpcError) as caught:
        agent.control.ActivateBundle(api.ActivateBundleRequest(bundle_sha256=bundle.sha256), timeout=TIMEOUT)
    assert refusal(caught.value).reason == "BLOB_CORRUPT"


def rolled_back(agent: Agent, since: int, began: float) -> str:
    """The cause with which the trial ended; everything must be well within the limit."""
    event = agent.wait_event("rolled_back", since=since)
    agent.wait_event("restored", since=event.sequence)
    assert agent.infer_patiently(X).model_version.startswith(SERVING.sha256[:12])
    assert time.monotonic() - began < LIMIT_S
    return dict(event.details)["cause"]


def test_a_bundle_slower_than_it_promises_is_rolled_back(agent: Agent) -> None:
    slow = make_bundle(5)
    slow = with_module(slow, slow_module(slow))
    agent.deploy(slow, commit=False)
    since, began = agent.status().last_event_sequence, time.monotonic()
    for _ in range(45):
        agent.infer(X)
    assert "on-CPU times is" in rolled_back(agent, since, began)


def test_a_bundle_that_hangs_is_rolled_back_without_a_second_chance(agent: Agent) -> None:
    pid = agent.deploy(make_bundle(6), commit=False).worker_pid
    since, began = agent.status().last_event_sequence, time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    asked = agent.inference.ModelInfer.future(infer_request(X), timeout=TIMEOUT)
    assert rolled_back(agent, since, began) == "its worker hung"
    assert refusal(asked.exception(timeout=TIMEOUT)).reason == "WORKER_TIMEOUT"


def test_a_bundle_that_crashes_twice_is_rolled_back(agent: Agent) -> None:
    agent.deploy(make_bundle(7), commit=False)
    since, began = agent.status().last_event_sequence, time.monotonic()
    for _ in range(2):
        os.kill(agent.deployment().worker_pid, signal.SIGKILL)
        agent.infer_patiently(X)
    assert rolled_back(agent, since, began) == "its worker died again"


def test_a_bundle_that_takes_many_requests_down_with_it_is_rolled_back_at_its_first_death(agent: Agent) -> None:
    pid = agent.deploy(make_bundle(8), commit=False).worker_pid
    since, began = agent.status().last_event_sequence, time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    refused = threading.Semaphore(0)
    asked = [agent.inference.ModelInfer.future(infer_request(X), timeout=TIMEOUT) for _ in range(MAX_SLOTS + 6)]
    for call in asked:
        call.add_done_callback(lambda _: refused.release())
    for _ in range(6):  # the queue is full when it refuses the six that are too many
        assert refused.acquire(timeout=TIMEOUT)
    os.kill(pid, signal.SIGKILL)
    reasons = [refusal(call.exception(timeout=TIMEOUT)).reason for call in asked]
    assert (reasons.count("WORKER_DIED"), reasons.count("WORKER_BUSY")) == (MAX_SLOTS, 6)
    assert "requests failed, the last with WORKER_DIED" in rolled_back(agent, since, began)


def test_a_committed_bundle_is_judged_no_more(agent: Agent) -> None:
    slow = make_bundle(9)
    slow = with_module(slow, slow_module(slow))
    agent.deploy(slow)
    for _ in range(45):
        agent.infer(X)
    assert agent.deployment().active_sha256 == slow.sha256
    agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT)
