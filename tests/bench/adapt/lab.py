"""The process that holds the ladder: `python -m tests.bench.adapt.lab ORDER.json`, with the worker's own loading code.

An order names a plan and asks for calibration or for one pass. The answer goes to the file that the order names.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.adapt import Policy, RungProfile, make_ladder, make_policy
from tailorbird_agent.runtimes.arrays import aligned_copy, aligned_zeros
from tailorbird_agent.worker.ladder import ResidentRung, load_ladder
from tailorbird_agent.worker.plan import DATATYPES, ServePlan
from tests.bench.adapt.weather import dilation

_CALIBRATION_RUNS = 120
#: Time between two runs: long enough for the scheduler to forget the one before.
_LEAST_GAP_S, _GAP_RUNS = 0.006, 2.5
#: Request bursts: arrivals per on-CPU time of the largest rung, calm and at twice the rate, so many requests of each.
_CALM_RATE, _BURST_RATE, _STRETCH_REQUESTS = 0.25, 0.5, (20, 60)


class Lab:
    """A loaded ladder and the arrays of one request."""

    def __init__(self, plan: ServePlan, profile_us: dict[str, float]) -> None:
        resident, _ = load_ladder(plan)
        rungs = [replace(rung, cpu_us=profile_us.get(rung.name, rung.cpu_us)) for rung in plan.rungs]
        self.ladder = make_ladder(RungProfile(rung.name, rung.accuracy, rung.cpu_us) for rung in rungs)
        self.rungs: list[ResidentRung] = [resident[profile.name] for profile in self.ladder]
        draw = np.random.default_rng(0)
        self._inputs = [
            aligned_copy(draw.standard_normal(spec.shape).astype(DATATYPES[spec.datatype][0])) for spec in plan.inputs
        ]
        self._outputs = [aligned_zeros(spec.shape, DATATYPES[spec.datatype][0]) for spec in plan.outputs]

    def run(self, rung: int, slowness: float = 1.0) -> tuple[float, float]:
        """One inference: wall and on-CPU microseconds, both lengthened by burning CPU where slowness is above 1."""
        wall_us, cpu_us = self.rungs[rung].run(self._inputs, self._outputs)
        if slowness <= 1.0:
            return wall_us, cpu_us
        began_ns, before_ns = time.perf_counter_ns(), time.thread_time_ns()
        end_ns = before_ns + int(1e3 * cpu_us * (slowness - 1.0))
        while time.thread_time_ns() < end_ns:
            pass
        burnt_us = (time.thread_time_ns() - before_ns) / 1e3
        return wall_us + (time.perf_counter_ns() - began_ns) / 1e3, cpu_us + burnt_us

    def calibrate(self) -> dict[str, float]:
        """Median on-CPU time of each rung, in turns and with pauses."""
        times: list[list[float]] = [[] for _ in self.rungs]
        for turn in range(_CALIBRATION_RUNS):
            for place in range(len(self.rungs)):
                rung = (turn + place) % len(self.rungs)
                times[rung].append(self.run(rung)[1])
                time.sleep(_LEAST_GAP_S)
        return {profile.name: statistics.median(each) for profile, each in zip(self.ladder, times, strict=True)}


class Lane:
    """A policy that answers requests of its own: what it did, and the queue in front of it."""

    def __init__(self, policy: Policy, deadline_us: float) -> None:
        self.policy = policy
        self._deadline_us = deadline_us
        self._free_at_us = 0.0
        self.rungs: list[int] = []
        self.late: list[bool] = []
        self.moves: list[int] = []
        self.decision_us: list[float] = []

    def answer(self, lab: Lab, slot: int, arrived_s: float, slowness: float) -> None:
        """Choose, run, tell the policy. The run is real; a queue is what this lane's own answers have made of it."""
        arrived_us = 1e6 * arrived_s
        queued_us = max(0.0, self._free_at_us - arrived_us)
        began_ns = time.thread_time_ns()
        decision = self.policy.choose(self._deadline_us, len(lab.ladder) - 1, arrived_s, queued_us=queued_us)
        decided_ns = time.thread_time_ns() - began_ns
        wall_us, cpu_us = lab.run(decision.rung, slowness)
        slack_us = self._deadline_us - queued_us
        began_ns = time.thread_time_ns()
        self.policy.observe(decision.rung, wall_us, cpu_us, slack_us, arrived_s)
        self.decision_us.append((decided_ns + time.thread_time_ns() - began_ns) / 1e3)
        self._free_at_us = arrived_us + queued_us + wall_us
        self.rungs.append(decision.rung)
        self.late.append(wall_us > slack_us)
        if decision.switch is not None:
            self.moves.append(slot)


def arrivals(seed: int, slots: int, slowest_us: float) -> list[float]:
    """When requests come, seconds: a Poisson process, calm for a stretch and at twice the rate for the next."""
    draw = random.Random(seed)
    times, now_s, burst = [], 0.0, False
    while len(times) < slots:
        rate = _BURST_RATE if burst else _CALM_RATE
        for _ in range(draw.randint(*_STRETCH_REQUESTS)):
            now_s += draw.expovariate(rate) * slowest_us / 1e6
            times.append(now_s)
        burst = not burst
    return times[:slots]


def one_pass(lab: Lab, order: dict[str, Any]) -> dict[str, Any]:
    """Matrix and live lanes in the same slots, under the weather that the order names."""
    name, slots, seed = order["weather"], order["slots"], order["seed"]
    slowest_us = lab.ladder[-1].cpu_us
    deadline_us = order["deadline"] * slowest_us
    lanes = [Lane(make_policy(policy, lab.ladder), deadline_us) for policy in order["policies"]]
    gap_s = max(_LEAST_GAP_S, _GAP_RUNS * slowest_us / 1e6)
    runs = [*range(len(lab.rungs)), *lanes]
    slot_s = gap_s * len(runs)
    virtual_s = arrivals(seed, slots, slowest_us) if name == "request-bursts" else None
    draw = random.Random(seed)
    at_s, walls, cpus = [], [], []
    command = [sys.executable, "-m", "tests.bench.adapt.weather", name, str(seed), str(1.02 * slots * slot_s)]
    command += [",".join(map(str, order["cores"])), str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sky:
        assert sky.stdout is not None
        assert sky.stdin is not None
        sky.stdout.readline()
        began_s = time.monotonic()
        for slot in range(slots):
            begun_s = began_s + slot * slot_s
            slowness = dilation(name, slot, slots)
            measured = {}
            for place, what in enumerate(draw.sample(runs, len(runs))):
                time.sleep(max(0.0, begun_s + place * gap_s - time.monotonic()))
                arrived_s = virtual_s[slot] if virtual_s else slot * slot_s
                if isinstance(what, Lane):
                    what.answer(lab, slot, arrived_s, slowness)
                else:
                    measured[what] = lab.run(what, slowness)
            at_s.append(virtual_s[slot] if virtual_s else slot * slot_s)
            walls.append([measured[rung][0] for rung in range(len(lab.rungs))])
            cpus.append([measured[rung][1] for rung in range(len(lab.rungs))])
        seconds = time.monotonic() - began_s
        sky.stdin.close()
        said = sky.stdout.read().strip()
    return {
        "weather": name,
        "unavailable": said.removeprefix("unavailable: ") if said else "",
        "synthetic": name in {"thermal-ramp", "flip"},
        "deadline_us": deadline_us,
        "slot_s": slot_s,
        "overrun": seconds / (slots * slot_s) - 1.0,
        "at_s": at_s,
        "wall_us": walls,
        "cpu_us": cpus,
        "lanes": {
            lane.policy.name: {
                "rungs": lane.rungs,
                "late": lane.late,
                "moves": lane.moves,
                "decision_us": lane.decision_us,
            }
            for lane in lanes
        },
    }


def main(path: Path) -> None:
    """Carry out one order."""
    order = json.loads(path.read_text())
    if order["pin"]:
        os.sched_setaffinity(0, order["cores"])
    lab = Lab(ServePlan.from_json(json.loads(Path(order["plan"]).read_text())), order.get("profile_us", {}))
    answer = one_pass(lab, order) if "weather" in order else lab.calibrate()
    out = Path(order["out"])
    out.with_suffix(".part").write_text(json.dumps(answer))
    out.with_suffix(".part").replace(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
