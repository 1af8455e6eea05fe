"""Ladders and synthetic traces that tests of the policies share."""

import math
import random

from tailorbird_agent.adapt import RungProfile, make_ladder
from tailorbird_agent.adapt.trace import Trace

LADDER = make_ladder(
    RungProfile(f"r{index}", accuracy, cpu_us)
    for index, (accuracy, cpu_us) in enumerate(
        [(0.700, 520.0), (0.730, 970.0), (0.755, 1670.0), (0.772, 2700.0), (0.785, 4000.0)]
    )
)
DEADLINE_US = 9500.0


def serve(policy, count, *, speed=1.0, wait_us=0.0, deadline_us=DEADLINE_US, cap=4, start_s=0.0):
    """Let a policy answer `count` requests under constant conditions; the rungs it chose and its switches."""
    rungs, switches = [], []
    for index in range(count):
        now_s = start_s + 0.1 * index
        decision = policy.choose(deadline_us, cap, now_s)
        cpu_us = speed * policy.ladder[decision.rung].cpu_us
        policy.observe(decision.rung, cpu_us + wait_us, cpu_us, deadline_us, now_s)
        rungs.append(decision.rung)
        if decision.switch is not None:
            switches.append(decision.switch)
    return rungs, switches


def contended_trace(seed, slots=600):
    """Calm, then a process that takes the core for 4 ms at a time, then slow silicon (x1.6), then calm again."""
    draw = random.Random(seed)
    wall, cpu = [], []
    for slot in range(slots):
        phase = 4 * slot // slots
        speed = (1.6 if phase == 2 else 1.0) * math.exp(draw.gauss(0.0, 0.02))
        rate_per_us = 2.5e-4 if phase == 1 else 5e-6
        walls, cpus = [], []
        for rung in LADDER:
            run_us = speed * rung.cpu_us
            hits, left = 0, run_us
            while (left := left - draw.expovariate(rate_per_us)) > 0.0:
                hits += 1
            cpus.append(run_us)
            walls.append(run_us + 4000.0 * hits)
        wall.append(tuple(walls))
        cpu.append(tuple(cpus))
    return Trace(LADDER, 0.1, tuple(0.1 * slot for slot in range(slots)), tuple(wall), tuple(cpu))
