"""SIGKILL for the host or the agent in the middle of tuning: what was committed stays, and the next life goes on."""

from __future__ import annotations

import platform
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailorbird.db import Store
from tailorbird.device import Devices, LocalAgent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64"),
]
LIFE = Path(__file__).with_name("tuning_life.py")


def begin(database: Path, trials: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LIFE), str(database), str(trials)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_records(store: Store, count: int, life: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while len(store.schedules.on("board").records()) < count:
        assert time.monotonic() < deadline
        assert life.poll() is None, life.communicate()
        select.select([], [], [], 0.05)


def test_killed_hosts_and_agents_lose_no_committed_record(tmp_path: Path) -> None:
    agent = LocalAgent.start(tmp_path / "agent", name="board")
    life = None
    try:
        with Store(tmp_path / "s.db") as store:
            Devices(store).add("board", str(agent.control), ("board",))
            life = begin(tmp_path / "s.db", 1000)
            wait_for_records(store, 5, life)
            life.kill()
            life.communicate()
            committed = store.schedules.on("board").records()

            life = begin(tmp_path / "s.db", 8)
            wait_for_records(store, len(committed) + 2, life)
            agent._process.kill()
            agent.stop()
            agent = LocalAgent.start(tmp_path / "agent", name="board")
            out, errors = life.communicate(timeout=400)
            assert out.startswith("done"), errors
            records = store.schedules.on("board").records()
            trials, failures = map(int, out.split()[1:])
    finally:
        if life is not None:
            life.kill()
            life.communicate()
        agent.stop()
    assert records[: len(committed)] == committed
    assert len(records) == len(committed) + trials
    assert trials >= 8
    assert failures < trials
    again = [(record.workload, record.trace_json) for record in records[len(committed) :] if record.source == "search"]
    known = {(record.workload, record.trace_json) for record in committed if record.trace_json}
    assert len(known.intersection(again)) <= len(again) // 4, "what was committed is not measured again"
