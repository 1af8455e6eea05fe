"""Tuning beside its peers, as one JSON object.

    python -m tests.bench.tune --suite quick|full --json out.json [--work FOLDER] [--nets NAME ...] [--minutes M]

A run goes on where an earlier one with the same --work was killed: every step of every network is kept, and one that
was cut short begins anew. `--suite smoke` takes seconds: two networks of a few layers, to see that all of it works.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailorbird.device import Device, LocalAgent
from tests.bench.outcome import Outcome, publish
from tests.bench.tune.judging import declare, judge
from tests.bench.tune.lab import Lab, Limits
from tests.bench.tune.nets import FULL, QUICK, SMOKE, Net

#: Of the extra `bench`.
_PEERS = ("onnx", "onnxruntime", "xgboost")
_STOP_S = 30.0
_STEPS = ("untuned", "cold", "transfer", "warm", "published", "stock", "timed")


def main() -> None:
    """Run what is missing and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("smoke", "quick", "full"), default="full")
    parser.add_argument("--json", type=Path, default=None, help="write the object here as well as to stdout")
    parser.add_argument("--work", type=Path, default=Path("tune-bench"), help="where steps are kept")
    parser.add_argument("--nets", nargs="*", default=None, help="only these networks, and those that lend to them")
    parser.add_argument("--minutes", type=float, default=None, help="of each search, instead of the suite's")
    options = parser.parse_args()
    missing = [name for name in _PEERS if importlib.util.find_spec(name) is None]
    if missing:  # they come last, hours from now
        parser.error(f"{', '.join(missing)} cannot be imported: pip install 'tailorbird[bench]'")
    nets, limits = _suite(options.suite, options.minutes)
    unknown = set(options.nets or ()) - {net.name for net in nets}
    if unknown:
        parser.error(f"no network {', '.join(sorted(unknown))}; there are {', '.join(net.name for net in nets)}")
    chosen = [net for net in nets if options.nets is None or net.name in options.nets]
    outcome = Outcome("tailorbird.bench.tune/1", options.suite)
    declare(outcome)
    options.work.mkdir(parents=True, exist_ok=True)
    with _agent(options.work) as agent, Device.connect(str(agent.control)) as device:
        for threads in (1, 2) if options.suite == "full" else (1,):
            lab = Lab(device, options.work, threads, limits, nets)
            for net in chosen:
                found = {}
                for step in _STEPS:
                    started = time.monotonic()
                    found[step] = lab.run(net, step)
                    sys.stderr.write(f"{threads}t {net.name} {step}: {time.monotonic() - started:.0f} s\n")
                judge(outcome, net, threads, found)
    publish(outcome, options.json)


def _suite(name: str, minutes: float | None) -> tuple[tuple[Net, ...], Limits]:
    """Networks, and what each of their searches may take: ours and the stock one have the same time.

    The stock one of the full suite has as many trials as it needs.
    """
    nets, usual, trials, stock_trials = {
        "smoke": (SMOKE, 0.1, 32, 16),
        "quick": (QUICK, 10.0, 2000, 1000),
        "full": (FULL, 30.0, 4000, 2000),
    }[name]
    seconds = 60.0 * (minutes or usual)
    return nets, Limits(seconds, seconds, trials, stock_trials)


@contextmanager
def _agent(work: Path) -> Iterator[LocalAgent]:
    """An agent for this run. One that a killed run with the same folder left behind is ended first."""
    state, note = (work / "agent").absolute(), work / "agent.pid"
    if note.exists():
        command = Path(f"/proc/{note.read_text()}/cmdline")
        if command.exists() and os.fsencode(state) in command.read_bytes().split(b"\0"):
            os.kill(int(note.read_text()), signal.SIGTERM)
            ends = time.monotonic() + _STOP_S
            while command.exists() and command.read_bytes() and time.monotonic() < ends:
                time.sleep(0.1)
    agent = LocalAgent.start(state, name="bench")
    try:
        note.write_text(str(agent.pid))
        yield agent
    finally:
        agent.stop()
        note.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
