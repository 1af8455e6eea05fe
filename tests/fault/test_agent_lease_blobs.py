"""One lease follows another at once: what the second found there is not swept away with the first."""

from __future__ import annotations

import hashlib

from agentkit.process import TIMEOUT, Agent

from tailorbird_api.agent.v1 import agent_service_pb2 as api


def test_a_blob_found_under_the_next_lease_is_not_collected_with_the_last(agent: Agent) -> None:
    for turn in range(20):
        data = b"module %d" % turn
        sha256 = hashlib.sha256(data).hexdigest()
        first = agent.lease("first")
        agent.upload({sha256: data}, first.fencing_token)
        before = agent.status().last_event_sequence
        agent.control.ReleaseLease(api.ReleaseLeaseRequest(lease_id=first.lease_id), timeout=TIMEOUT)
        second = agent.lease("second")
        found = agent.stat(sha256)[0].complete
        agent.wait_event("blobs_collected", since=before)
        assert agent.stat(sha256)[0].complete == found
        agent.control.ReleaseLease(api.ReleaseLeaseRequest(lease_id=second.lease_id), timeout=TIMEOUT)
