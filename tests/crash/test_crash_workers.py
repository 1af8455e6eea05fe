"""SIGKILL the serving worker at random under load: every answer is right, and service is back in five seconds."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from agentkit.bundles import X, make_bundle
from agentkit.process import Agent, output

from tailorbird_agent.store.blobs import file_digest
from tailorbird_api.agent.v1 import agent_service_pb2 as api

BACK_S = 5.0


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_killed_at_random_the_worker_comes_back_in_time_with_the_committed_bundle(tmp_path: Path, kills: int) -> None:
    chance = random.Random(2026)
    bundle = make_bundle(1)
    with Agent(tmp_path / "s") as agent:
        agent.deploy(bundle)
        killed_s: list[float] = []
        for _ in range(kills):
            pid = agent.deployment().worker_pid
            timer = threading.Timer(chance.uniform(0.0, 0.05), lambda pid=pid: os.kill(pid, signal.SIGKILL))
            timer.start()
            while timer.is_alive():
                assert np.allclose(output(agent.infer_patiently(X)), bundle.answer(X, 2), atol=0.1)
            timer.join()
            began = time.monotonic()
            while agent.deployment().worker_pid in {0, pid}:
                assert np.allclose(output(agent.infer_patiently(X)), bundle.answer(X, 2), atol=0.1)
            killed_s.append(time.monotonic() - began)
        assert max(killed_s) < BACK_S
        now = agent.deployment()
        assert (now.active_sha256, now.state) == (bundle.sha256, api.DEPLOYMENT_STATE_COMMITTED)
        for path in (agent.state / "blobs").iterdir():
            assert file_digest(path) == path.name
