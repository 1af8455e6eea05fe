"""The daemon at rest: time to ready, memory, CPU."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tailorbird.device.local import LocalAgent
from tests.bench.outcome import Outcome, quantile


def measure(outcome: Outcome, folder: Path, *, starts: int, seconds: float) -> LocalAgent:
    """Start the daemon a few times, then watch the last one idle. Returns it, still running."""
    outcome.target("daemon idle: at most 64 MiB RSS", "resident set after the idle period, no model loaded")
    outcome.target("daemon idle: under 1 % of a core", "CPU time over the idle period")
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
    before, since = _cpu_s(agent.pid), time.perf_counter()
    time.sleep(seconds)
    share = (_cpu_s(agent.pid) - before) / (time.perf_counter() - since)
    rss = _rss_mib(agent.pid)
    outcome.samples["ready_s"] = ready
    outcome.figures["idle"] = {"rss_mib": rss, "cpu_percent": 100 * share, "ready_s": quantile(ready, 0.5)}
    outcome.judge("daemon idle: at most 64 MiB RSS", met=rss <= 64)
    outcome.judge("daemon idle: under 1 % of a core", met=share < 0.01)
    outcome.judge("daemon ready in 1 s", met=quantile(ready, 0.5) <= 1.0)
    return agent


def _cpu_s(pid: int) -> float:
    """CPU seconds of all threads: schedstat counts nanoseconds, /proc/pid/stat only clock ticks."""
    tasks = ((task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir())
    return sum(int(text.split()[0]) for text in tasks) / 1e9


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
