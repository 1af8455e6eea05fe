"""Every way in which others, or the machine, can fail the agent: one clear refusal, and what served still serves."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import select
import shutil
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from agentkit.bundles import Bundle, add_blob, canonical, make_bundle, sample
from agentkit.process import CHUNK, TIMEOUT, Agent, alive, chunks, infer_request, output, refusal, retry_after_s

from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.inference import open_inference_pb2 as oip
from tailorbird_api.types.v1 import measurement_pb2

X = sample((1, 16), seed=7)
SERVING = make_bundle(1)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent that serves SERVING; after every test it must still do so."""
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        running.deploy(SERVING)
        yield running


@pytest.fixture(autouse=True)
def still_serves(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "agent" in request.fixturenames:
        response = request.getfixturevalue("agent").infer(X)
        assert response.model_version == f"{SERVING.sha256[:12]}/r2"
        assert np.allclose(output(response), SERVING.answer(X, 2), atol=0.1)


class refused:
    """Context: the call inside must fail with this reason and code."""

    def __init__(self, reason: str, code: grpc.StatusCode, text: str = "") -> None:
        self.reason, self.code, self.text = reason, code, text

    def __enter__(self) -> refused:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        assert isinstance(error, grpc.RpcError), f"it was accepted, or failed otherwise: {error!r}"
        self.error = error
        info = refusal(error)
        assert (info.reason, error.code()) == (self.reason, self.code), error.details()
        assert info.metadata["fix"]
        assert self.text in error.details()
        return True


def stage(agent: Agent, bundle: Bundle, **fields: Any) -> api.StageBundleResponse:
    agent.upload(bundle.blobs)
    return agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest, **fields), timeout=TIMEOUT)


def activate(agent: Agent, bundle: Bundle, **fields: Any) -> api.Deployment:
    request = api.ActivateBundleRequest(bundle_sha256=bundle.sha256, **fields)
    return agent.control.ActivateBundle(request, timeout=TIMEOUT).deployment


# -- blobs


def test_a_flipped_byte_is_found_the_part_dropped_and_the_blob_sent_again(agent: Agent) -> None:
    data = os.urandom(600_000)
    sha256 = hashlib.sha256(data).hexdigest()
    flipped = data[:300_000] + bytes([data[300_000] ^ 4]) + data[300_001:]
    with refused("BLOB_CORRUPT", grpc.StatusCode.DATA_LOSS):
        agent.upload({sha256: flipped})
    assert agent.stat(sha256)[0].offset_bytes == 0
    agent.upload({sha256: data})
    assert agent.stat(sha256)[0].complete


def test_a_chunk_at_the_wrong_place_is_told_the_right_one(agent: Agent) -> None:
    data = os.urandom(2 * CHUNK)
    sha256 = hashlib.sha256(data).hexdigest()
    with refused("BLOB_OFFSET", grpc.StatusCode.OUT_OF_RANGE, "0 bytes are here"):
        agent.control.UploadBlobs(chunks({sha256: data}, start=CHUNK), timeout=TIMEOUT)


def test_a_stream_that_names_no_blob_is_refused(agent: Agent) -> None:
    with refused("INPUT_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        agent.control.UploadBlobs(iter([api.UploadBlobsRequest(data=b"x")]), timeout=TIMEOUT)


def test_a_blob_beyond_the_quota_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    with Agent(tmp_path / "s", "--quota-bytes", "300000") as agent:
        sent: list[int] = []

        def counted(data: bytes) -> Iterator[api.UploadBlobsRequest]:
            for chunk in chunks({hashlib.sha256(data).hexdigest(): data}):
                sent.append(len(chunk.data))
                yield chunk

        with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"):
            agent.control.UploadBlobs(counted(bytes(40 * CHUNK)), timeout=TIMEOUT)
        assert len(sent) < 20  # what was in flight when the refusal came
        assert not list((tmp_path / "s" / "incoming").iterdir())
        small = make_bundle(1)
        assert agent.deploy(small).active_sha256 == small.sha256


def test_a_full_disk_refuses_the_upload_and_what_is_committed_serves(tmp_path: Path) -> None:
    state = tmp_path / "small"
    state.mkdir()
    if os.system(f"mount -t tmpfs -o size=2m,mode=0700 tmpfs {state} 2>/dev/null") != 0:
        pytest.skip("no right to mount a small disk")
    try:
        # No reserve: the writes themselves run into the end of the disk.
        os.environ["TAILORBIRD_AGENT_RESERVE_BYTES"] = "0"
        with Agent(state, "--socket-dir", str(tmp_path)) as agent:
            bundle = make_bundle(1)
            agent.deploy(bundle)
            data = os.urandom(1_500_000)
            sha256 = hashlib.sha256(data).hexdigest()
            agent.control.UploadBlobs((each for each in list(chunks({sha256: data}))[:3]), timeout=TIMEOUT)
            (state / "other").write_bytes(bytes(os.statvfs(state).f_bavail * os.statvfs(state).f_frsize - 8192))
            with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED):
                agent.control.UploadBlobs(chunks({sha256: data}, start=3 * CHUNK), timeout=TIMEOUT)
            with refused("DISK_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED):
                agent.upload({hashlib.sha256(bytes(100_000)).hexdigest(): bytes(100_000)})
            assert agent.infer(X).model_version == f"{bundle.sha256[:12]}/r2"
            (state / "other").unlink()
            offset = agent.stat(sha256)[0].offset_bytes
            agent.control.UploadBlobs(chunks({sha256: data}, start=offset), timeout=TIMEOUT)
            assert agent.stat(sha256)[0].complete
    finally:
        del os.environ["TAILORBIRD_AGENT_RESERVE_BYTES"]
        os.system(f"umount {state}")


# -- bundles


def aarch64_library() -> bytes:
    return b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HH", 3, 183) + bytes(44)


def with_module(bundle: Bundle, data: bytes) -> Bundle:
    manifest = json.loads(bundle.manifest)
    manifest["rungs"][0]["artifact"]["blob"] = add_blob(bundle, data)
    return Bundle(bundle.number, bundle.shape, canonical(manifest), bundle.blobs)


def compatible(**changes: Any) -> Bundle:
    bundle = make_bundle(2)
    return bundle.edited(compatible=json.loads(bundle.manifest)["compatible"] | changes)


def test_a_bundle_for_another_cpu_is_refused_by_its_manifest(agent: Agent) -> None:
    with refused("INCOMPATIBLE_TRIPLE", grpc.StatusCode.FAILED_PRECONDITION, "aarch64-linux-gnu"):
        stage(agent, compatible(triple="aarch64-linux-gnu"))


def test_a_library_for_another_cpu_is_refused_whatever_its_manifest_says(agent: Agent) -> None:
    with refused("INCOMPATIBLE_TRIPLE", grpc.StatusCode.FAILED_PRECONDITION, 'rung "r0" holds aarch64 code'):
        stage(agent, with_module(make_bundle(2), aarch64_library()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"libc": "glibc 9.99"}, "INCOMPATIBLE_LIBC"),
        ({"isa_features": ["quantum"]}, "INCOMPATIBLE_ISA"),
        ({"runtimes": [{"runtime": "litert", "version": "0.0.1"}]}, "RUNTIME_MISSING"),
    ],
)
def test_a_bundle_that_asks_for_what_is_not_here_is_refused(agent: Agent, changes: dict[str, Any], reason: str) -> None:
    with refused(reason, grpc.StatusCode.FAILED_PRECONDITION):
        stage(agent, compatible(**changes))


def test_a_bundle_for_a_newer_agent_is_refused(agent: Agent) -> None:
    with refused("AGENT_TOO_OLD", grpc.StatusCode.FAILED_PRECONDITION):
        stage(agent, make_bundle(2).edited(min_agent_version="99.0"))


def test_a_bundle_whose_blobs_are_not_here_names_the_first(agent: Agent) -> None:
    bundle = make_bundle(77)
    with refused("BLOB_MISSING", grpc.StatusCode.NOT_FOUND) as caught:
        agent.control.StageBundle(api.StageBundleRequest(manifest=bundle.manifest), timeout=TIMEOUT)
    assert refusal(caught.error).metadata["sha256"] in bundle.blobs


@pytest.mark.parametrize("manifest", [b"", b"{", b"null", b'{"schema":"x"}', b"\xff" * 100, b"[" * 3000])
def test_bytes_that_are_no_manifest_are_refused(agent: Agent, manifest: bytes) -> None:
    with refused("MANIFEST_INVALID", grpc.StatusCode.INVALID_ARGUMENT):
        agent.control.StageBundle(api.StageBundleRequest(manifest=manifest), timeout=TIMEOUT)


def test_wrong_answers_are_never_served(agent: Agent) -> None:
    wrong = make_bundle(3, golden_shift=5.0)
    stage(agent, wrong)
    with refused("GOLDEN_MISMATCH", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, wrong)
    assert agent.deployment().active_sha256 == SERVING.sha256
    failed = agent.events("load_failed")[-1]
    assert failed.details["reason"] == "GOLDEN_MISMATCH"


def test_a_module_that_is_damaged_is_never_served(agent: Agent) -> None:
    broken = with_module(make_bundle(4), b"not a module")
    stage(agent, broken)
    with refused("MODULE_INVALID", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, broken)


def test_a_blob_the_disk_damaged_after_staging_is_never_loaded(agent: Agent) -> None:
    bundle = make_bundle(5)
    stage(agent, bundle)
    victim = json.loads(bundle.manifest)["rungs"][1]["artifact"]["blob"]["sha256"]
    path = agent.state / "blobs" / victim
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with refused("BLOB_CORRUPT", grpc.StatusCode.DATA_LOSS):
        activate(agent, bundle)
    assert not agent.stat(victim)[0].complete


def test_a_bundle_nobody_staged_cannot_be_activated(agent: Agent) -> None:
    with refused("NOT_STAGED", grpc.StatusCode.FAILED_PRECONDITION):
        activate(agent, make_bundle(78))


def test_a_change_based_on_an_old_generation_is_refused(agent: Agent) -> None:
    bundle = make_bundle(6)
    staged = stage(agent, bundle).deployment
    with refused("GENERATION_CONFLICT", grpc.StatusCode.ABORTED, f"at generation {staged.generation}"):
        activate(agent, bundle, expected_generation=staged.generation - 1)
    with refused("GENERATION_CONFLICT", grpc.StatusCode.ABORTED):
        stage(agent, make_bundle(7), expected_generation=staged.generation + 1)


def test_there_is_no_way_back_without_a_previous_bundle(agent: Agent) -> None:
    with refused("NO_PREVIOUS", grpc.StatusCode.FAILED_PRECONDITION):
        agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT)


@pytest.mark.parametrize("method", ["CommitBundle", "RollbackBundle", "SetPolicy", "GetPolicy"])
def test_an_unknown_model_is_refused_with_those_there_are(agent: Agent, method: str) -> None:
    request = getattr(api, f"{method}Request")(model="nobody")
    with refused("MODEL_NOT_FOUND", grpc.StatusCode.NOT_FOUND, "models here: toy"):
        getattr(agent.control, method)(request, timeout=TIMEOUT)


def test_an_unknown_policy_is_refused_with_those_there_are(agent: Agent) -> None:
    for policy in ("fastest", "static:r9"):
        with refused("POLICY_UNKNOWN", grpc.StatusCode.INVALID_ARGUMENT, "static:r0"):
            agent.control.SetPolicy(api.SetPolicyRequest(model="toy", policy=policy), timeout=TIMEOUT)
    assert agent.deployment().policy == "two-channel"


# -- inference


@pytest.mark.parametrize(
    ("fields", "reason", "code", "text"),
    [
        ({"model": "nobody"}, "MODEL_NOT_FOUND", "NOT_FOUND", "models here: toy"),
        ({"version": "r9"}, "RUNG_NOT_FOUND", "NOT_FOUND", "r0, r1, r2"),
        ({"version": "000000000000/r0"}, "RUNG_NOT_FOUND", "NOT_FOUND", "does not serve"),
    ],
)
def test_an_unknown_model_or_rung_is_refused(
    agent: Agent, fields: dict[str, str], reason: str, code: str, text: str
) -> None:
    with refused(reason, grpc.StatusCode[code], text):
        agent.infer(X, **fields)


def wrong_requests() -> Iterator[tuple[str, oip.ModelInferRequest, str]]:
    yield "shape", infer_request(sample((1, 15))), '"x" is FP32[1, 16], got FP32[1, 15]'
    yield "rank", infer_request(sample((16,))), "got FP32[16]"
    kind = infer_request(X)
    kind.inputs[0].datatype = "INT64"
    yield "datatype", kind, "got INT64[1, 16]"
    name = infer_request(X)
    name.inputs[0].name = "y"
    yield "name", name, 'takes the inputs "x"; got: "y"'
    twice = infer_request(X)
    twice.inputs.append(twice.inputs[0])
    twice.raw_input_contents.append(X.tobytes())
    yield "twice", twice, "takes the inputs"
    short = infer_request(X)
    short.raw_input_contents[0] = X.tobytes()[:-1]
    yield "bytes", short, "takes 64 bytes, got 63"
    count = infer_request(X)
    count.raw_input_contents.append(b"")
    yield "count", count, "1 inputs come with 2 raw contents"
    none = infer_request(X)
    del none.inputs[:], none.raw_input_contents[:]
    yield "none", none, "got: none"
    typed = infer_request(X)
    del typed.raw_input_contents[:]
    typed.inputs[0].contents.fp32_contents.extend([1.0] * 15)
    yield "typed", typed, "takes 64 bytes, got 60"
    outputs = infer_request(X)
    outputs.outputs.add(name="z")
    yield "output", outputs, 'No output "z"; there are: y'
    slo = infer_request(X)
    slo.parameters["slo_us"].string_param = "soon"
    yield "slo", slo, "slo_us"


@pytest.mark.parametrize(("request_", "text"), [pytest.param(r, t, id=name) for name, r, t in wrong_requests()])
def test_an_input_that_does_not_fit_is_refused_with_what_was_expected(
    agent: Agent, request_: oip.ModelInferRequest, text: str
) -> None:
    with refused("INPUT_INVALID", grpc.StatusCode.INVALID_ARGUMENT, text):
        agent.inference.ModelInfer(request_, timeout=TIMEOUT)


def test_a_killed_worker_comes_back_with_what_was_committed(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        bundle = make_bundle(1)
        first = agent.deploy(bundle)
        for _ in range(3):
            before = agent.status().last_event_sequence
            os.kill(agent.deployment().worker_pid, signal.SIGKILL)
            died = agent.wait_event("worker_died", since=before)
            assert died.details["status"] == "-9"
            response = agent.infer(X)  # waits for the new worker
            assert response.model_version == f"{bundle.sha256[:12]}/r2"
        now = agent.deployment()
        assert now.worker_pid != first.worker_pid
        assert (now.state, now.active_sha256) == (api.DEPLOYMENT_STATE_COMMITTED, bundle.sha256)


def test_requests_in_flight_when_the_worker_dies_are_told_to_retry(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        bundle = make_bundle(1)
        pid = agent.deploy(bundle).worker_pid
        os.kill(pid, signal.SIGSTOP)  # what is sent now stays in flight
        calls = [agent.inference.ModelInfer.future(infer_request(X), timeout=TIMEOUT) for _ in range(4)]
        agent.status()
        os.kill(pid, signal.SIGKILL)
        outcomes = [call.exception(timeout=TIMEOUT) for call in calls]
        failed = [error for error in outcomes if error is not None]
        assert failed
        for error in failed:
            assert refusal(error).reason == "WORKER_DIED"
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert retry_after_s(error) == 0.5
        assert np.allclose(output(agent.infer_patiently(X)), bundle.answer(X, 2), atol=0.1)


def test_a_trial_whose_worker_dies_twice_gives_way_to_what_was_committed(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        good, bad = make_bundle(1), make_bundle(2)
        agent.deploy(good)
        agent.deploy(bad, commit=False)
        os.kill(agent.deployment().worker_pid, signal.SIGKILL)
        assert agent.infer_patiently(X).model_version.startswith(bad.sha256[:12])
        assert agent.deployment().state == api.DEPLOYMENT_STATE_TRIAL
        os.kill(agent.deployment().worker_pid, signal.SIGKILL)
        assert "died again" in agent.wait_event("rolled_back").message
        assert agent.infer(X).model_version.startswith(good.sha256[:12])
        now = agent.deployment()
        assert (now.state, now.active_sha256) == (api.DEPLOYMENT_STATE_ROLLED_BACK, good.sha256)


def test_a_trial_nobody_commits_in_time_gives_way(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        good, late = make_bundle(1), make_bundle(2)
        agent.deploy(good)
        agent.push(late)
        request = api.ActivateBundleRequest(bundle_sha256=late.sha256)
        request.trial_timeout.FromMilliseconds(300)
        agent.control.ActivateBundle(request, timeout=TIMEOUT)
        assert "nobody committed it" in agent.wait_event("rolled_back").message
        agent.restart()
        assert agent.infer(X).model_version.startswith(good.sha256[:12])


def test_a_restart_during_the_trial_comes_back_to_what_was_committed(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        good, trial = make_bundle(1), make_bundle(2)
        agent.deploy(good)
        agent.deploy(trial, commit=False)
        agent.restart()
        assert agent.infer(X).model_version.startswith(good.sha256[:12])
        assert agent.deployment().state == api.DEPLOYMENT_STATE_ROLLED_BACK


def test_the_death_of_the_agent_takes_its_workers_along(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        worker = agent.deploy(make_bundle(1)).worker_pid
        agent.kill()
        for _ in range(500):
            if not alive(worker):
                break
            os.sched_yield()
        descriptor = os.pidfd_open(worker) if alive(worker) else None
        if descriptor is not None:
            assert select.select([descriptor], [], [], 5)[0], "the worker outlived its agent"
        agent.start()


# -- measuring


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
    request.candidate_timeout.FromMilliseconds(1500)
    results = {
        each.measurement.label: each.measurement for each in agent.control.MeasureModules(request, timeout=TIMEOUT)
    }
    assert "1.5 s" in results["hangs"].error
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
