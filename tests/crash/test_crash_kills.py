"""SIGKILL the agent and its worker at random moments: it comes back, in time, with what was committed."""

from __future__ import annotations

from pathlib import Path

import pytest
from agentkit.kills import Rampage

BACK_S = 5.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kills", [40, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_any_moment_it_comes_back_in_time_with_what_was_committed(folder: Path, kills: int) -> None:
    report = Rampage(folder / "s", seed=2026).run(kills)
    assert report.kills == kills
    assert len(report.own_s) == kills
    # On a machine that others use, a new process waits for them: that says nothing about ours.
    assert max(report.own_s) < BACK_S
