"""A short run of the swap benchmark's load: real clients, real rungs, deployments, switches; no answer astray."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.swap import judging, settings, traffic

REQUESTS, DEPLOYMENTS = 600, 3


@pytest.mark.timeout(600)
def test_no_answer_is_lost_or_wrong_across_deployments_and_switches_of_rung(tmp_path: Path) -> None:
    traffic.run(traffic.Piece(REQUESTS, DEPLOYMENTS, "slackfit", bundles=2), tmp_path / "piece.npz")
    seen = judging.watched(tmp_path / "piece.npz")
    assert (seen.lost, seen.wrong) == ((), ())
    assert seen.requests >= REQUESTS
    assert seen.distance > 100, "the rungs answer alike: the check proves nothing"
    assert len(seen.at_deployments) == DEPLOYMENTS
    assert min(seen.at_deployments) >= settings.IN_FLIGHT
    assert seen.at_switches
    assert min(seen.at_switches) >= settings.IN_FLIGHT
    assert min(seen.answered_by.values()) > 0, "every rung answered somebody"
