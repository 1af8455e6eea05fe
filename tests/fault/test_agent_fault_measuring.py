"""Measuring without the lease, after it, and of modules that misbehave."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from agentkit.bundles import SERVING
from agentkit.process import (
    TIMEOUT,
    Agent,
    refused,
    retry_after_s,
)

from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.types.v1 import measurement_pb2


@pytest.fixture
def token(agent: Agent) -> Iterator[int]:
    """The fencing token of a lease that ends with the test."""
    lease = agent.lease()
    yield lease.fencing_token
    release(agent, lease)


def release(agent: Agent, lease: api.Lease) -> None:
    agent.control.ReleaseLease(api.ReleaseLeaseRequest(lease_id=lease.lease_id), timeout=TIMEOUT)


def candidate(agent: Agent, data: bytes, token: int, label: str = "c") -> measurement_pb2.Candidate:
    sha256 = hashlib.sha256(data).hexdigest()
    agent.upload({sha256: data}, token)
    args = [measurement_pb2.TensorSpec(name="x", datatype="FP32", shape=[1, 16])]
    kind = measurement_pb2.MODULE_KIND_LITERT_MODEL
    return measurement_pb2.Candidate(kind=kind, sha256=sha256, args=args, label=label)


def test_measuring_needs_the_lease_and_the_current_one(agent: Agent) -> None:
    with refused("LEASE_REQUIRED", grpc.StatusCode.FAILED_PRECONDITION):
        list(agent.control.MeasureModules(api.MeasureModulesRequest(), timeout=TIMEOUT))
    with refused("LEASE_REQUIRED", grpc.StatusCode.FAILED_PRECONDITION):
        agent.control.RunBenchmark(api.RunBenchmarkRequest(names=["gemm-fp32"]), timeout=TIMEOUT)
    lease = agent.lease()
    old = lease.fencing_token
    release(agent, lease)
    lease = agent.lease()
    assert lease.fencing_token > old
    with refused("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION):
        list(agent.control.MeasureModules(api.MeasureModulesRequest(fencing_token=old), timeout=TIMEOUT))
    with refused("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION):
        agent.upload({"0" * 64: b"x"}, token=old)
    release(agent, lease)


def test_a_device_that_is_taken_says_by_whom_and_until_when(agent: Agent) -> None:
    lease = agent.lease("the tuner", request_id="one")
    assert agent.lease("the tuner", request_id="one") == lease
    with refused("LEASE_HELD", grpc.StatusCode.RESOURCE_EXHAUSTED, "the tuner") as caught:
        agent.lease("somebody else")
    assert 50 < (retry_after_s(caught.error) or 0) <= 60
    assert agent.status().lease.holder == "the tuner"
    release(agent, lease)
    with refused("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION):
        agent.control.RenewLease(api.RenewLeaseRequest(lease_id=lease.lease_id), timeout=TIMEOUT)


def test_a_restart_ends_the_lease_and_tokens_go_on_growing(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        old = agent.lease()
        agent.restart()
        with refused("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION):
            list(
                agent.control.MeasureModules(
                    api.MeasureModulesRequest(fencing_token=old.fencing_token), timeout=TIMEOUT
                )
            )
        assert agent.lease().fencing_token > old.fencing_token


def test_blobs_of_a_lease_go_with_it_and_those_of_a_bundle_stay(agent: Agent) -> None:
    lease = agent.lease()
    data = os.urandom(1000)
    sha256 = hashlib.sha256(data).hexdigest()
    agent.upload({sha256: data} | SERVING.blobs, lease.fencing_token)
    before = agent.status().last_event_sequence
    release(agent, lease)
    agent.wait_event("blobs_collected", since=before)
    assert not agent.stat(sha256)[0].complete
    assert all(each.complete for each in agent.stat(*SERVING.blobs))


def test_a_candidate_that_does_not_load_is_a_value_and_the_batch_goes_on(agent: Agent, token: int) -> None:
    candidates = [candidate(agent, data, token, label) for label, data in (("a", b"junk"), ("b", b"more junk"))]
    request = api.MeasureModulesRequest(fencing_token=token, candidates=candidates)
    results = list(agent.control.MeasureModules(request, timeout=TIMEOUT))
    assert [(each.index, each.measurement.label) for each in results] == [(0, "a"), (1, "b")]
    assert all(each.measurement.error and not each.measurement.cpu_us for each in results)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiles a library that does something when it is loaded."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("libraries")

    def build(name: str, body: str) -> bytes:
        source, library = folder / f"{name}.c", folder / f"{name}.so"
        source.write_text(f"#include <unistd.h>\n__attribute__((constructor)) void go(void) {{ {body} }}\n")
        subprocess.run([compiler, "-shared", "-fPIC", "-O0", "-o", library, source], check=True)
        return library.read_bytes()

    return build


@pytest.fixture(scope="module")
def tvm_runtime() -> bytes:
    """The library a host would ship."""
    found = importlib.util.find_spec("tvm")
    libraries = (
        [path for root in (found.submodule_search_locations or ()) for path in Path(root).rglob("libtvm_runtime.so")]
        if found
        else []
    )
    if not libraries:
        pytest.skip("apache-tvm is not installed")
    return libraries[0].read_bytes()


def kernels(agent: Agent, token: int, tvm_runtime: bytes, **libraries: bytes) -> api.MeasureModulesRequest:
    """A request to measure libraries as TVM kernels."""
    request = api.MeasureModulesRequest(fencing_token=token)
    for label, library in libraries.items():
        each = candidate(agent, library, token, label)
        each.kind = measurement_pb2.MODULE_KIND_TVM_KERNEL
        request.candidates.append(each)
    sha256 = hashlib.sha256(tvm_runtime).hexdigest()
    agent.upload({sha256: tvm_runtime}, token)
    request.runtime_blobs.add(runtime="tvm").blob.sha256 = sha256
    return request


def test_modules_that_hang_or_crash_cost_their_own_time_and_nothing_else(
    agent: Agent, token: int, compiled: Any, tvm_runtime: bytes
) -> None:
    bodies = {"hangs": "for (;;) sleep(1);", "crashes": "*(volatile int *)0 = 1;", "idles": ""}
    libraries = {name: compiled(name, body) for name, body in bodies.items()}
    request = kernels(agent, token, tvm_runtime, **libraries)
    request.candidate_timeout.FromMilliseconds(4000)
    results = {
        each.measurement.label: each.measurement for each in agent.control.MeasureModules(request, timeout=TIMEOUT)
    }
    assert "4 s" in results["hangs"].error
    assert "SIGSEGV" in results["crashes"].error
    assert results["idles"].error  # it has no entry point: refused, and by a worker that lives
    assert not any(each.cpu_us for each in results.values())


def test_a_lease_that_ends_takes_its_measurement_along(agent: Agent, compiled: Any, tvm_runtime: bytes) -> None:
    lease = agent.lease()
    hanging = compiled("hangs_too", "for (;;) sleep(1);")
    request = kernels(agent, lease.fencing_token, tvm_runtime, quick=b"junk", hangs=hanging)
    stream = agent.control.MeasureModules(request, timeout=TIMEOUT)
    assert next(stream).measurement.label == "quick"
    release(agent, lease)
    with refused("LEASE_LOST", grpc.StatusCode.FAILED_PRECONDITION):
        list(stream)
    following = agent.lease("the next")
    assert following.fencing_token > lease.fencing_token
    release(agent, following)


def test_a_candidate_nobody_uploaded_is_named(agent: Agent, token: int) -> None:
    missing = measurement_pb2.Candidate(kind=measurement_pb2.MODULE_KIND_LITERT_MODEL, sha256="1" * 64)
    request = api.MeasureModulesRequest(fencing_token=token, candidates=[missing])
    with refused("BLOB_MISSING", grpc.StatusCode.NOT_FOUND, "1" * 64):
        list(agent.control.MeasureModules(request, timeout=TIMEOUT))


def test_figures_are_measured_and_an_unknown_one_is_refused(agent: Agent, token: int) -> None:
    request = api.RunBenchmarkRequest(fencing_token=token, names=["gemm-fp32"])
    request.protocol.max_time_ms, request.protocol.min_time_ms = 100, 5
    (figure,) = agent.control.RunBenchmark(request, timeout=TIMEOUT).figures
    assert figure.value > 0
    assert figure.unit
    assert figure.measurement.cpu_us
    with refused("INPUT_INVALID", grpc.StatusCode.INVALID_ARGUMENT, "there are:"):
        agent.control.RunBenchmark(api.RunBenchmarkRequest(fencing_token=token, names=["flops"]), timeout=TIMEOUT)
