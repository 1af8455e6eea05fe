"""Workers, trials and agents that end when nobody meant them to."""

from __future__ import annotations

import json
import os
import select
import signal
from pathlib import Path

import grpc
import numpy as np
from agentkit.bundles import X, make_bundle
from agentkit.process import (
    TIMEOUT,
    Agent,
    alive,
    infer_request,
    output,
    refusal,
    retry_after_s,
)

from tailorbird_api.agent.v1 import agent_service_pb2 as api


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


def test_a_trial_that_cannot_be_loaded_again_gives_way(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        good, bad = make_bundle(1), make_bundle(2)
        agent.deploy(good)
        agent.deploy(bad, commit=False)
        module = json.loads(bad.manifest)["rungs"][0]["artifact"]["blob"]["sha256"]
        (tmp_path / "s" / "blobs" / module).write_bytes(b"rotten")
        os.kill(agent.deployment().worker_pid, signal.SIGKILL)
        assert "could not be loaded again" in agent.wait_event("rolled_back").message
        assert agent.wait_event("restored").details["bundle"] == good.sha256
        assert agent.infer(X).model_version.startswith(good.sha256[:12])


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


def test_a_disk_that_takes_no_record_stops_neither_restart_nor_rollback(tmp_path: Path) -> None:
    with Agent(tmp_path / "s") as agent:
        committed, trial = make_bundle(1), make_bundle(2)
        agent.deploy(committed)
        pid = agent.deploy(trial, commit=False).worker_pid
        # Writing the record now fails as on a card that went read-only.
        (agent.state / "state.json.new").mkdir()
        os.kill(pid, signal.SIGKILL)
        agent.wait_event("restored")
        assert agent.infer_patiently(X).model_version == f"{trial.sha256[:12]}/r2"
        os.kill(agent.deployment().worker_pid, signal.SIGKILL)
        agent.wait_event("rolled_back")
        assert agent.infer_patiently(X).model_version == f"{committed.sha256[:12]}/r2"
        (agent.state / "state.json.new").rmdir()
