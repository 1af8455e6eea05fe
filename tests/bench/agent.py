"""The agent's speed and memory: python -m tests.bench.agent [--suite quick|full] [--json FILE]."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tailorbird.device import Device
from tests.bench import agent_footprint, agent_idle, agent_overhead, agent_soak, agent_swap, agent_switch
from tests.bench.outcome import Outcome, arguments, publish


def main() -> None:
    """Measure a fresh local agent and print the object."""
    options = arguments(__doc__)
    full = options.suite == "full"
    outcome = Outcome("tailorbird.bench.agent/1", options.suite)
    with tempfile.TemporaryDirectory(prefix="tb") as folder:
        agent = agent_idle.measure(outcome, Path(folder), starts=5 if full else 3, seconds=20 if full else 8)
        try:
            with Device.connect(str(agent.control)) as device:
                agent_overhead.measure(outcome, device, runs=1000 if full else 200)
                agent_switch.measure(outcome, device, switches=1000 if full else 200)
                agent_swap.measure(outcome, device, swaps=100 if full else 10, requests=20_000 if full else 2_000)
                agent_soak.measure(outcome, device, agent.pid, seconds=1800 if full else 30)
        finally:
            agent.stop()
        agent_footprint.measure(outcome, Path(folder))
    publish(outcome, options.json)


if __name__ == "__main__":
    main()
