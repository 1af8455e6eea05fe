"""The daemon at rest: time to ready, memory, CPU."""

from __future__ import annotations

import time
from pathlib import Path

from tailorbird.device.local import LocalAgent
from tests.bench.outcome import Outcome, quantile
from tests.bench.processes import cpu_s, rss_mib


def measure(outcome: Outcome, folder: Path, *, starts: int, seconds: float) -> LocalAgent:
    """Start the daemon a few times, then watch the last one idle. Returns it, still running."""
    outcome.target("daemon idle: at most 45 MiB RSS", "resident set after the idle period, no model loaded")
    outcome.target("daemon idle: at most 0.3 % of a core", "CPU time over the idle period")
    outcome.target("daemon ready in 1 s", "median time from exec to the ready line")
    ready, agent = [], None
    for number in range(starts):
        if agent is not None:
            agent.stop()
        begun = time.perf_counter()
        agent = LocalAgent.start(folder / f"state{number}")
        ready.append(time.perf_counter() - begun)
    assert agent is not None
    time.sleep(2)  # the first sensor readings belong to starting up
    before, since = cpu_s(agent.pid), time.perf_counter()
    time.sleep(seconds)
    share = (cpu_s(agent.pid) - before) / (time.perf_counter() - since)
    rss = rss_mib(agent.pid)
    outcome.samples["ready_s"] = ready
    outcome.figures["idle"] = {"rss_mib": rss, "cpu_percent": 100 * share, "ready_s": quantile(ready, 0.5)}
    outcome.judge("daemon idle: at most 45 MiB RSS", met=rss <= 45)
    outcome.judge("daemon idle: at most 0.3 % of a core", met=share <= 0.003)
    outcome.judge("daemon ready in 1 s", met=quantile(ready, 0.5) <= 1.0)
    return agent
