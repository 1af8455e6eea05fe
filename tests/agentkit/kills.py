"""SIGKILL at random moments: the agent among deployments and rollbacks, its worker among requests.

    python -m agentkit.kills KILLS SEED OUT.json

After each, no blob may be damaged, what was committed must serve again, and every answer must be right.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grpc
import numpy as np

from agentkit.bundles import Bundle, X, make_bundle
from agentkit.process import TIMEOUT, Agent, output
from tailorbird_agent.store.blobs import file_digest
from tailorbird_api.agent.v1 import agent_service_pb2 as api

#: Longest time from the beginning of something to the kill: about what deploying, committing and rolling back take.
_WORK_S, _REQUESTS_S = 0.5, 0.05
_BUNDLES = 4


@dataclass(slots=True)
class Report:
    """Seconds from each kill until the first answer afterwards.

    own_s: the same without the time in which the new process, ready to run, waited for a CPU that others used.
    """

    agent_back_s: list[float] = field(default_factory=list)
    worker_back_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return len(self.agent_back_s) + len(self.worker_back_s)


class Rampage:
    """An agent that is killed again and again. Raises AssertionError at the first thing that is not as it must be."""

    def __init__(self, state: Path, seed: int) -> None:
        self.report = Report()
        self._chance = random.Random(seed)
        self._bundles = {bundle.sha256: bundle for bundle in (make_bundle(number) for number in range(_BUNDLES))}
        self._agent = Agent(state)
        self._committed = self._agent.deploy(next(iter(self._bundles.values()))).active_sha256
        self._token = 0

    def run(self, kills: int) -> Report:
        """Kill so many times more."""
        try:
            for _ in range(kills):
                self._chance.choice((self._kill_agent, self._kill_worker))()
        finally:
            self._agent.stop()
        return self.report

    def _kill_agent(self) -> None:
        agent, bundle = (
            self._agent,
            self._bundles[self._chance.choice(sorted(self._bundles.keys() - {self._committed}))],
        )
        timer = threading.Timer(self._chance.uniform(0.0, _WORK_S), agent.process.kill)
        timer.start()
        try:
            while True:
                agent.deploy(bundle, commit=False)
                agent.control.CommitBundle(api.CommitBundleRequest(model="toy"), timeout=TIMEOUT)
                agent.control.RollbackBundle(api.RollbackBundleRequest(model="toy"), timeout=TIMEOUT)
        except grpc.RpcError as error:
            # Either it is gone, or it lives and there was nothing to go back to.
            assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}, error
        timer.join()
        self._check_blobs()
        began = time.monotonic()
        agent.restart()
        self._ask()
        back_s, now = time.monotonic() - began, agent.deployment()
        self.report.agent_back_s.append(back_s)
        self.report.own_s.append(back_s - _waited_s(agent.pid) - _waited_s(now.worker_pid))
        # A commit whose answer was lost is a commit all the same.
        assert now.active_sha256 in {self._committed, bundle.sha256}
        assert now.state in {api.DEPLOYMENT_STATE_COMMITTED, api.DEPLOYMENT_STATE_ROLLED_BACK}
        self._committed = now.active_sha256
        token = agent.lease().fencing_token
        assert token > self._token
        self._token = token

    def _kill_worker(self) -> None:
        agent = self._agent
        pid = agent.deployment().worker_pid
        killed_s = []

        def kill() -> None:
            killed_s.append(time.monotonic())
            os.kill(pid, signal.SIGKILL)

        timer = threading.Timer(self._chance.uniform(0.0, _REQUESTS_S), kill)
        timer.start()
        while timer.is_alive():
            self._ask()
        timer.join()
        while agent.deployment().worker_pid in {0, pid}:
            self._ask()
        back_s, now = time.monotonic() - killed_s[0], agent.deployment()
        self.report.worker_back_s.append(back_s)
        self.report.own_s.append(back_s - _waited_s(now.worker_pid))
        assert now.active_sha256 == self._committed

    def _ask(self) -> None:
        """One answer, which must be that of the bundle that claims it."""
        response = self._agent.infer_patiently(X)
        claimed = [bundle for bundle in self._bundles.values() if response.model_version == _version(bundle)]
        assert len(claimed) == 1, response.model_version
        assert np.allclose(output(response), claimed[0].answer(X, 2), atol=0.1)

    def _check_blobs(self) -> None:
        for path in (self._agent.state / "blobs").iterdir():
            assert file_digest(path) == path.name


def _waited_s(pid: int) -> float:
    """How long the first thread of a process has waited for a CPU since it began."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _version(bundle: Bundle) -> str:
    return f"{bundle.sha256[:12]}/r2"


def main(kills: int, seed: int, out: Path) -> None:
    """Kill so many times and write the report."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        report = Rampage(Path(folder) / "s", seed).run(kills)
    out.write_text(json.dumps(asdict(report)))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
