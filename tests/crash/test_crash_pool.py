"""Two agents, three client processes, SIGKILL for any of them: no device is granted twice, no job is lost."""

from __future__ import annotations

import random
import select
import subprocess
import sys
import time
from pathlib import Path

from tailorbird.db import Store
from tailorbird.device import Device, Devices, LocalAgent
from tailorbird.types import Event

JOBS, CLIENTS, KILLS = 42, 3, 5
CLIENT = Path(__file__).with_name("pool_client.py")


class Agents:
    """The two boards, which can be killed and come back."""

    def __init__(self, folder: Path) -> None:
        self.states = [folder / f"board{number}" for number in range(2)]
        self.running = [LocalAgent.start(state, name=state.name) for state in self.states]

    def kill(self, which: int) -> None:
        agent = self.running[which]
        agent._process.kill()
        agent.stop()
        self.running[which] = LocalAgent.start(self.states[which], name=self.states[which].name)

    def stop(self) -> None:
        for agent in self.running:
            agent.stop()

    def leases(self, which: int) -> list[Event]:
        """What the agent remembers of leases, and of its own starts, oldest first."""
        with Device.connect(self.running[which].control) as device:
            return device.events(kinds=("lease", "started"), limit=1000)


class Client:
    """One client process, started again by its user after it was killed."""

    def __init__(self, folder: Path, number: int) -> None:
        self.results = folder / f"client{number}.txt"
        first, last = number * JOBS // CLIENTS, (number + 1) * JOBS // CLIENTS
        self._arguments = [str(folder / "s.db"), str(self.results), f"client{number}", str(first), str(last)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CLIENT), *self._arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.start()

    def finish(self) -> None:
        out, errors = self.process.communicate(timeout=120)
        assert out == "done\n", errors


def test_killed_at_any_moment_no_device_is_granted_twice_and_no_job_is_lost(tmp_path: Path) -> None:
    chance = random.Random(7)
    agents = Agents(tmp_path)
    clients: list[Client] = []
    try:
        with Store(tmp_path / "s.db") as store:
            for agent, state in zip(agents.running, agents.states, strict=True):
                Devices(store).add(state.name, str(agent.control), ("board",))
        clients = [Client(tmp_path, number) for number in range(CLIENTS)]
        for kill in range(KILLS):
            wait_for_lines(clients, (kill + 1) * JOBS // (KILLS + 2))
            assert any(client.process.poll() is None for client in clients), "too late to kill anything"
            victim = chance.randrange(4)
            if victim < 2:
                agents.kill(victim)
            else:
                max(clients, key=lambda client: client.process.poll() is None).kill()
        for client in clients:
            client.finish()
        events = [agents.leases(which) for which in range(2)]
    finally:
        for client in clients:
            client.process.kill()
            client.process.communicate()
        agents.stop()

    lines = [line.split() for client in clients for line in client.results.read_text().splitlines()]
    assert sorted(int(line[0]) for line in lines) == list(range(JOBS)), "each job is committed exactly once"
    assert {line[1] for line in lines} == {"board0", "board1"}, "both devices had a share"
    for which, happened in enumerate(events):
        assert_one_holder_at_a_time(happened)
        holder_of = {dict(e.details)["token"]: dict(e.details)["holder"] for e in happened if e.kind == "lease"}
        for _, device, token, name, process in lines:
            if device == f"board{which}":
                assert holder_of[token] == f"{name}:{process}", "a token belongs to the one it was granted to"


def assert_one_holder_at_a_time(events: list[Event]) -> None:
    held, tokens = None, []
    for event in events:
        details = dict(event.details)
        if event.kind == "started":
            held = None
        elif details["state"] == "granted":
            assert held is None, f"{details} while {held} held it"
            held = details["token"]
            tokens.append(int(held))
        else:
            assert details["token"] == held
            held = None
    assert len(tokens) > 3
    assert tokens == sorted(set(tokens))


def wait_for_lines(clients: list[Client], count: int) -> None:
    """Until so many jobs are committed; looks whenever a client had a moment to go on."""
    deadline = time.monotonic() + 120
    while sum(len(client.results.read_text().splitlines()) for client in clients if client.results.exists()) < count:
        assert time.monotonic() < deadline, [client.process.poll() for client in clients]
        select.select([], [], [], 0.02)
