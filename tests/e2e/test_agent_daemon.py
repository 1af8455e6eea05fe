"""The daemon from outside: how it starts, what it offers, what it costs, how it leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from agentkit.bundles import make_bundle, sample
from agentkit.process import TIMEOUT, Agent, chunks, infer_request, output, refusal
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as api_grpc
from tailorbird_api.inference import open_inference_pb2 as oip
from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

X = sample((1, 16), seed=3)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent"), "--tcp", "127.0.0.1:0") as running:
        yield running


def test_the_ready_line_names_sockets_with_the_right_modes(agent: Agent) -> None:
    assert agent.ready_line.startswith(
        f"ready control={agent.state}/control.sock inference={agent.state}/inference.sock"
    )
    assert Path(agent.fields["control"]).stat().st_mode & 0o777 == 0o600
    assert Path(agent.fields["inference"]).stat().st_mode & 0o777 == 0o660
    assert agent.state.stat().st_mode & 0o777 == 0o700


def test_the_card_names_the_device_and_sensors_that_are_absent_have_no_value(agent: Agent) -> None:
    status = agent.status()
    assert status.card.name == "bench-board"
    assert status.card.machine == os.uname().machine
    assert "reference" in {runtime.name for runtime in status.card.runtimes}
    assert status.readings
    assert all(reading.source for reading in status.readings)


def test_status_is_streamed_at_the_interval_asked_for(agent: Agent) -> None:
    request = api.WatchStatusRequest()
    request.interval.FromMilliseconds(100)
    stream = agent.control.WatchStatus(request, timeout=TIMEOUT)
    uptimes = [next(stream).status.uptime.ToMilliseconds() for _ in range(3)]
    stream.cancel()
    assert uptimes == sorted(uptimes)
    assert uptimes[2] - uptimes[0] >= 190
    request.interval.FromMilliseconds(50)
    with pytest.raises(grpc.RpcError) as caught:
        next(agent.control.WatchStatus(request, timeout=TIMEOUT))
    assert refusal(caught.value).reason == "INPUT_INVALID"


def test_health_is_reported_per_service(agent: Agent) -> None:
    with grpc.insecure_channel(f"unix:{agent.fields['inference']}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService", "tailorbird_api.agent.v1.AgentService"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_inference_listeners_offer_nothing_of_control(agent: Agent) -> None:
    for target in (f"unix:{agent.fields['inference']}", agent.fields["tcp"]):
        with grpc.insecure_channel(target) as channel:
            assert oip_grpc.GRPCInferenceServiceStub(channel).ServerLive(oip.ServerLiveRequest(), timeout=TIMEOUT).live
            with pytest.raises(grpc.RpcError) as caught:
                api_grpc.AgentServiceStub(channel).GetStatus(api.GetStatusRequest(), timeout=TIMEOUT)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_control_message_above_one_mebibyte_is_refused(agent: Agent) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        agent.control.StageBundle(api.StageBundleRequest(manifest=bytes((1 << 20) + 1)), timeout=TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_large_upload_is_resumed_and_costs_no_memory(agent: Agent) -> None:
    data = os.urandom(64 << 20)
    sha256 = hashlib.sha256(data).hexdigest()
    before = resident_bytes(agent.pid)
    messages = list(chunks({sha256: data}))
    agent.control.UploadBlobs(iter(messages[:100]), timeout=TIMEOUT)
    offset = agent.stat(sha256)[0].offset_bytes
    assert offset == 100 * (256 << 10)
    stats = agent.control.UploadBlobs(chunks({sha256: data}, start=offset), timeout=TIMEOUT).blobs
    assert stats[0].complete
    assert resident_bytes(agent.pid) - before <= 8 << 20


def test_repeated_requests_act_once(agent: Agent) -> None:
    bundle = make_bundle(1)
    agent.upload(bundle.blobs)
    stage = api.StageBundleRequest(request_id="stage-1", manifest=bundle.manifest)
    staged = [agent.control.StageBundle(stage, timeout=TIMEOUT) for _ in range(3)]
    assert staged[0] == staged[1] == staged[2]
    assert staged[0].bundle_sha256 == bundle.sha256
    assert staged[0].deployment.state == api.DEPLOYMENT_STATE_STAGED
    activate = api.ActivateBundleRequest(request_id="activate-1", bundle_sha256=bundle.sha256)
    first = agent.control.ActivateBundle(activate, timeout=TIMEOUT).deployment
    assert agent.control.ActivateBundle(activate, timeout=TIMEOUT).deployment == first
    assert first.state == api.DEPLOYMENT_STATE_TRIAL
    with pytest.raises(grpc.RpcError) as caught:
        activate.commit = True
        agent.control.ActivateBundle(activate, timeout=TIMEOUT)
    assert refusal(caught.value).reason == "REQUEST_ID_REUSED"
    commit = api.CommitBundleRequest(model="toy", expected_generation=first.generation)
    assert agent.control.CommitBundle(commit, timeout=TIMEOUT).deployment.state == api.DEPLOYMENT_STATE_COMMITTED


def test_rollback_returns_to_the_previous_bundle_even_after_a_restart(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        old, new = make_bundle(1), make_bundle(2)
        agent.deploy(old)
        agent.deploy(new)
        agent.restart()
        assert agent.infer(X).model_version.startswith(new.sha256[:12])
        back = agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT).deployment
        assert (back.active_sha256, back.previous_sha256) == (old.sha256, "")
        assert np.allclose(output(agent.infer(X)), old.answer(X, 2), atol=0.1)
        agent.restart()
        assert agent.infer(X).model_version.startswith(old.sha256[:12])


def test_policy_and_deadline_are_chosen_and_survive_a_restart(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        agent.deploy(make_bundle(1, slo_us=9e6))
        policy = agent.control.GetPolicy(api.GetPolicyRequest(model="toy"), timeout=TIMEOUT)
        assert (policy.policy, policy.slo_us) == ("two-channel", 9e6)
        assert {"static-small", "static:r1"} <= set(policy.available)
        chosen = api.SetPolicyRequest(model="toy", policy="static:r1", slo_us=5e6)
        agent.control.SetPolicy(chosen, timeout=TIMEOUT)
        assert agent.infer(X).model_version.endswith("/r1")
        agent.restart()
        response = agent.infer(X)
        assert response.model_version.endswith("/r1")
        assert response.parameters["missed"].bool_param is False
        assert agent.deployment().slo_us == 5e6
        agent.deploy(make_bundle(2, rungs=1))  # has no r1: the default policy takes over
        assert agent.deployment().policy == "two-channel"
        assert agent.infer(X).model_version.endswith("/r0")


def test_a_rung_can_be_pinned_by_name_and_by_version(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        bundle = make_bundle(1)
        agent.deploy(bundle)
        for version, rung in (("r0", 0), (f"{bundle.sha256[:12]}/r1", 1), ("", 2)):
            response = agent.infer(X, version=version)
            assert np.allclose(output(response), bundle.answer(X, rung), atol=0.1)
        counts = {rung.name: rung.requests for rung in agent.deployment().rungs}
        assert counts == {"r0": 1, "r1": 1, "r2": 1}


def test_models_live_side_by_side_and_are_listed_in_pages(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        for number, model in enumerate(("a", "b", "c")):
            agent.push(make_bundle(number, model=model))
        pages, token = [], ""
        while True:
            page = agent.control.ListBundles(api.ListBundlesRequest(page_size=2, page_token=token), timeout=TIMEOUT)
            pages.append([each.model for each in page.deployments])
            token = page.next_page_token
            if not token:
                break
        assert pages == [["a", "b"], ["c"]]


def test_events_survive_sigkill_and_numbers_go_on(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        agent.deploy(make_bundle(1))
        before = [(event.sequence, event.kind) for event in agent.events()]
        agent.restart()
        after = [(event.sequence, event.kind) for event in agent.events()]
        assert after[: len(before)] == before
        assert [sequence for sequence, _ in after] == list(range(1, len(after) + 1))


def test_sigterm_lets_requests_in_flight_finish(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    agent.deploy(make_bundle(1))
    channel = grpc.insecure_channel(f"unix:{agent.fields['inference']}")
    stub = oip_grpc.GRPCInferenceServiceStub(channel)
    calls = [stub.ModelInfer.future(infer_request(X), timeout=TIMEOUT) for _ in range(16)]
    calls[0].result()
    agent.process.terminate()
    codes = {call.code() for call in calls}
    assert grpc.StatusCode.OK in codes
    # What had not arrived when the door closed is refused; what had is answered.
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    channel.close()
    status, errors = agent.stop()
    assert (status, errors) == (0, "")
    assert not (agent.state / "control.sock").exists()


def test_sigterm_during_an_activation_lets_it_end_and_tells_its_caller(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    bundle = make_bundle(2)
    agent.push(bundle)
    watch = agent.control.WatchEvents(api.WatchEventsRequest(since_sequence=1_000_000), timeout=TIMEOUT)
    request = api.ActivateBundleRequest(bundle_sha256=bundle.sha256, commit=True)
    activation = agent.control.ActivateBundle.future(request, timeout=TIMEOUT)
    while not (workers := children(agent.pid)):
        assert agent.process.poll() is None
    os.kill(workers[0], signal.SIGSTOP)
    agent.process.terminate()
    # Longer than a stream may outlive the end of the last change.
    with pytest.raises(subprocess.TimeoutExpired):
        agent.process.wait(1.0)
    os.kill(workers[0], signal.SIGCONT)
    assert activation.result().deployment.active_sha256 == bundle.sha256
    assert watch.code() is grpc.StatusCode.UNAVAILABLE
    assert agent.stop() == (0, "")


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_sigterm_under_load_turns_requests_away_in_words_clients_retry(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s")
    agent.deploy(make_bundle(1))

    def ask_until_refused() -> set[tuple[grpc.StatusCode, str]]:
        with grpc.insecure_channel(
            f"unix:{agent.fields['inference']}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            answered.release()
            while True:
                calls = [stub.ModelInfer.future(infer_request(X), timeout=TIMEOUT) for _ in range(8)]
                found = {(call.code(), refusal(call).reason if rpc_status.from_call(call) else "") for call in calls}
                if found != {(grpc.StatusCode.OK, "")}:
                    return found - {(grpc.StatusCode.OK, "")}

    answered = threading.Semaphore(0)
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask_until_refused) for _ in range(4)]
        for _ in clients:
            answered.acquire()
        agent.process.terminate()
        refusals = set().union(*(client.result() for client in clients))
    assert refusals <= {(grpc.StatusCode.UNAVAILABLE, "STOPPING"), (grpc.StatusCode.UNAVAILABLE, "")}
    assert agent.stop() == (0, "")


def test_connections_that_say_nothing_do_not_use_up_the_descriptors(tmp_path: Path) -> None:
    with Agent(tmp_path / "s", wrapper=("prlimit", "--nofile=64:1024")) as agent, ExitStack() as silent:
        for _ in range(100):
            connection = silent.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(agent.fields["inference"])
        agent.deploy(make_bundle(1))
        assert agent.infer(X).model_name == "toy"


def test_bundles_nobody_returns_to_give_their_blobs_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILORBIRD_AGENT_BLOB_GRACE_S", "0")
    with Agent(tmp_path / "s") as agent:
        for bundle in (bundles := [make_bundle(number) for number in (1, 2, 3)]):
            agent.deploy(bundle)
        here = {bundle.number: agent.stat(bundle.sha256)[0].complete for bundle in bundles}
        assert here == {1: False, 2: True, 3: True}


def test_a_state_folder_that_takes_no_state_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("not a folder")
    command = [sys.executable, "-m", "tailorbird_agent", "run", "--state", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "cannot keep state in" in done.stderr


def test_a_second_agent_on_the_same_state_is_refused(agent: Agent) -> None:
    command = [sys.executable, "-m", "tailorbird_agent", "run", "--state", str(agent.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "another agent uses" in done.stderr
    assert agent.status().card.name == "bench-board"


@pytest.mark.parametrize("taken", ["sockets", "port"])
def test_an_address_that_is_taken_is_refused_and_its_owner_left_alone(agent: Agent, tmp_path: Path, taken: str) -> None:
    flags = ["--socket-dir", str(agent.state)] if taken == "sockets" else ["--tcp", agent.fields["tcp"]]
    command = [sys.executable, "-m", "tailorbird_agent", "run", "--state", str(tmp_path / "other"), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert ("another agent listens" if taken == "sockets" else "cannot listen on") in done.stderr
    assert "fix: " in done.stderr
    assert "Traceback" not in done.stderr
    # A new connection: the old one would outlive its socket's name.
    with grpc.insecure_channel(
        f"unix:{agent.fields['control']}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        status = api_grpc.AgentServiceStub(channel).GetStatus(api.GetStatusRequest(), timeout=TIMEOUT)
        assert status.card.name == "bench-board"


def test_an_agent_nobody_calls_leaves(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "s", "--idle-exit", "0.3")
    assert agent.process.wait(timeout=20) == 0
    assert agent.stop() == (0, "")


def test_status_prints_for_people_and_for_machines(agent: Agent) -> None:
    for flag, expected in ((), "bench-board: "), (("--json",), '"agent_version"'):
        command = [sys.executable, "-m", "tailorbird_agent", "status", "--state", str(agent.state), *flag]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert expected in done.stdout


def test_the_daemon_stays_small_while_a_model_serves(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        assert resident_bytes(agent.pid) <= 64 << 20
        agent.deploy(make_bundle(1))
        for seed in range(200):
            agent.infer(sample((1, 16), seed))
        assert resident_bytes(agent.pid) <= 64 << 20


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA, a server certificate, and client certificates of an operator and a viewer."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    new_key = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    openssl(folder, f"{new_key} -x509 -keyout ca.key -out ca.pem -subj /CN=ca")
    for name, san in (
        ("server", "IP:127.0.0.1"),
        ("operator", "URI:spiffe://home/operator/laptop"),
        ("viewer", "URI:spiffe://home/viewer/wall"),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName={san}\n")
        openssl(folder, f"{new_key} -keyout {name}.key -out {name}.csr -subj /CN={name}")
        sign = f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile {name}.ext"
        openssl(folder, f"{sign} -out {name}.pem")
    return folder


def openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def test_control_over_mutual_tls_gives_each_certificate_its_role(tmp_path: Path, certificates: Path) -> None:
    files = ("--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-client-ca", "ca.pem")
    flags = [flag if flag.startswith("--") else str(certificates / flag) for flag in files]
    with Agent(tmp_path / "s", "--tcp-control", "127.0.0.1:0", *flags) as agent:
        target = agent.fields["tcp-control"]
        assert call_with(certificates, "operator", target) == "OK"
        assert call_with(certificates, "viewer", target) == "PERMISSION_DENIED"
        with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError):
            api_grpc.AgentServiceStub(channel).GetStatus(api.GetStatusRequest(), timeout=5)


def call_with(certificates: Path, who: str, target: str) -> str:
    """The outcome of taking the lease with somebody's certificate, who may look in any case."""
    key, chain = ((certificates / f"{who}.{kind}").read_bytes() for kind in ("key", "pem"))
    credentials = grpc.ssl_channel_credentials((certificates / "ca.pem").read_bytes(), key, chain)
    with grpc.secure_channel(target, credentials) as channel:
        stub = api_grpc.AgentServiceStub(channel)
        assert stub.GetStatus(api.GetStatusRequest(), timeout=TIMEOUT).card.name == "bench-board"
        try:
            stub.AcquireLease(api.AcquireLeaseRequest(holder=who), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return str(error.code().name)
        return "OK"


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
