"""How much of everything a suite does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """pieces: of the load, each with a fresh agent, so many requests and deployments; switches: of the single caller;
    cold: first answers of rungs that are not in memory; load_s: of each LoadGen scenario; kills: in so many parts, each
    with a fresh agent.
    """

    pieces: int
    requests: int
    deployments: int
    switches: int
    cold: int
    load_s: float
    kills: int
    kill_parts: int


_QUICK = Suite(pieces=1, requests=10_000, deployments=12, switches=200, cold=20, load_s=10.0, kills=20, kill_parts=1)
_FULL = Suite(
    pieces=50, requests=20_000, deployments=20, switches=1000, cold=100, load_s=60.0, kills=1000, kill_parts=20
)
SUITES = {"quick": _QUICK, "full": _FULL}

#: Requests that each of the two client processes keeps on their way.
LANES = 8
CLIENTS = 2
#: Least that must be in flight at every swap.
IN_FLIGHT = 8
#: How long deadlines stay tight or relaxed; short enough for ten switches in the time of a deployment.
PHASE_S = 0.04
#: Deadlines swing for so many phases and stay relaxed for as many: what latencies around switches compare with.
SWING_PHASES = 32
TIGHT_US, RELAXED_US = 1, 10_000_000
#: One request in so many names the rung that shall answer, in turn, so that each of a ladder answers.
PINNED_EVERY = 16
