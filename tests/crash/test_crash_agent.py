"""SIGKILL the agent at random moments of uploads, deployments and rollbacks. It comes back with what was committed."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import grpc
import numpy as np
from agentkit.bundles import make_bundle, sample
from agentkit.process import TIMEOUT, Agent, output

from tailorbird_agent.store.blobs import file_digest
from tailorbird_api.agent.v1 import agent_service_pb2 as api

KILLS = 8
X = sample((1, 16), seed=11)


def test_killed_at_any_moment_the_agent_comes_back_with_a_committed_bundle(tmp_path: Path) -> None:
    chance = random.Random(2026)
    bundles = {bundle.sha256: bundle for bundle in (make_bundle(number) for number in range(KILLS + 1))}
    order = list(bundles.values())
    agent = Agent(tmp_path / "s")
    try:
        committed = {agent.deploy(order[0]).active_sha256}
        token = agent.lease().fencing_token
        for bundle in order[1:]:
            timer = threading.Timer(chance.uniform(0.0, 0.8), agent.process.kill)
            timer.start()
            try:
                while True:
                    agent.deploy(bundle, commit=False)
                    agent.control.CommitBundle(api.CommitBundleRequest(model="toy"), timeout=TIMEOUT)
                    committed.add(bundle.sha256)
                    agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT)
            except grpc.RpcError as error:
                # Either it is gone, or it lives and there was nothing to go back to.
                assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}, error
            timer.join()
            for path in (tmp_path / "s" / "blobs").iterdir():
                assert file_digest(path) == path.name
            agent.restart()
            response = agent.infer_patiently(X)
            active = agent.deployment()
            assert response.model_version.startswith(active.active_sha256[:12])
            served = bundles[active.active_sha256]
            # A commit whose answer was lost is a commit all the same.
            assert active.active_sha256 in committed | {bundle.sha256}
            committed.add(active.active_sha256)
            assert np.allclose(output(response), served.answer(X, 2), atol=0.1)
            assert active.state in {api.DEPLOYMENT_STATE_COMMITTED, api.DEPLOYMENT_STATE_ROLLED_BACK}
            now = agent.lease().fencing_token
            assert now > token
            token = now
    finally:
        agent.stop()
