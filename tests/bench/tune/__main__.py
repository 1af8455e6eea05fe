"""Tuning beside its peers, as one JSON object.

    python -m tests.bench.tune --suite quick|full --json out.json [--work FOLDER] [--nets NAME ...] [--minutes M]

A run goes on where an earlier one with the same --work was killed: every step of every network is kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tailorbird.device import Device, LocalAgent
from tests.bench.outcome import Outcome, publish
from tests.bench.tune.judging import declare, judge
from tests.bench.tune.lab import Lab, Limits
from tests.bench.tune.nets import FULL, QUICK

_STEPS = ("untuned", "cold", "transfer", "warm", "published", "stock", "timed")


def main() -> None:
    """Run what is missing and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=("quick", "full"), default="full")
    parser.add_argument("--json", type=Path, default=None, help="write the object here as well as to stdout")
    parser.add_argument("--work", type=Path, default=Path("tune-bench"), help="where steps are kept")
    parser.add_argument("--nets", nargs="*", default=None, help="only these networks, and those that lend to them")
    parser.add_argument("--minutes", type=float, default=None, help="of each search, instead of the suite's")
    options = parser.parse_args()
    quick = options.suite == "quick"
    minutes = options.minutes or (10.0 if quick else 30.0)
    # Ours and the stock search have the same time; the stock one of the full suite as many trials as it needs.
    limits = Limits(60 * minutes, 60 * minutes, 2000 if quick else 4000, 1000 if quick else 2000)
    nets = QUICK if quick else FULL
    chosen = [net for net in nets if options.nets is None or net.name in options.nets]
    outcome = Outcome("tailorbird.bench.tune/1", options.suite)
    declare(outcome)
    options.work.mkdir(parents=True, exist_ok=True)
    agent = LocalAgent.start(options.work / "agent", name="bench")
    try:
        with Device.connect(str(agent.control)) as device:
            for threads in (1,) if quick else (1, 2):
                lab = Lab(device, options.work, threads, limits, nets)
                for net in chosen:
                    found = {}
                    for step in _STEPS:
                        started = time.monotonic()
                        found[step] = lab.run(net, step)
                        sys.stderr.write(f"{threads}t {net.name} {step}: {time.monotonic() - started:.0f} s\n")
                    judge(outcome, net, threads, found)
    finally:
        agent.stop()
    publish(outcome, options.json)


if __name__ == "__main__":
    main()
