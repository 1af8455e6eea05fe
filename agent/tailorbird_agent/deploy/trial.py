"""Whether a bundle on trial does what its manifest promises, judged from the requests it answers.

Judged by on-CPU time first, which others on the device do not lengthen; by wall time only where the half of all answers
took far too long. What the bundle before it took at the same work is allowed as well: on a throttled device everything
is slow, and that is no reason to go back.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from dataclasses import dataclass

#: Why a request failed that speak against the bundle, and not against the request or the load.
FAULTS = frozenset({"MODULE_INVALID", "OUT_OF_MEMORY", "WORKER_DIED", "WORKER_TIMEOUT"})


@dataclass(frozen=True, slots=True)
class Limits:
    """When a trial has failed. Counts are of requests; times are microseconds on top of a multiple of the profile."""

    answers: int = 40  # before times are judged
    window: int = 200
    times_profile: float = 3.0
    cpu_slack_us: float = 1000.0
    wall_slack_us: float = 25_000.0  # others may take the CPU for some slices of the scheduler
    times_previous: float = 1.5
    requests: int = 20  # before errors are judged
    error_share: float = 0.05


class Pace:
    """How long the requests of one worker take beyond their profile."""

    def __init__(self, profile_us: Mapping[str, float], limits: Limits | None = None) -> None:
        self._profile_us = dict(profile_us)
        self.limits = limits or Limits()
        self._excess: collections.deque[tuple[float, float]] = collections.deque(maxlen=self.limits.window)

    def note(self, rung: str, wall_us: float, cpu_us: float) -> None:
        """Take note of one answer."""
        allowed_us = self.limits.times_profile * self._profile_us[rung]
        self._excess.append((cpu_us - allowed_us, wall_us - allowed_us))

    def excess_us(self) -> tuple[float, float] | None:
        """By how much the 95th percentile of on-CPU times and the median wall time pass what the profile allows.

        None before enough answers.
        """
        if len(self._excess) < self.limits.answers:
            return None
        cpu, wall = (sorted(column) for column in zip(*self._excess, strict=True))
        return cpu[int(0.95 * len(cpu))], wall[len(wall) // 2]


class Trial:
    """One bundle on trial. before: the pace of the bundle it follows, as it was."""

    def __init__(self, pace: Pace, before: tuple[float, float] | None) -> None:
        self._pace = pace
        limits = pace.limits
        cpu_us, wall_us = before or (0.0, 0.0)
        self._cpu_budget_us = max(limits.cpu_slack_us, limits.times_previous * cpu_us)
        self._wall_budget_us = max(limits.wall_slack_us, limits.times_previous * wall_us)
        self._requests = self._errors = 0

    def answered(self) -> str:
        """After an answer that its pace has noted: why the trial has failed, "" while it has not."""
        self._requests += 1
        excess = self._pace.excess_us()
        if excess is None:
            return ""
        cpu_us, wall_us = excess
        if cpu_us > self._cpu_budget_us:
            return f"the 95th percentile of its on-CPU times is {_ms(cpu_us - self._cpu_budget_us)} over budget"
        if wall_us > self._wall_budget_us:
            return f"half of its answers took {_ms(wall_us - self._wall_budget_us)} more than its budget"
        return ""

    def failed(self, reason: str) -> str:
        """After a request that failed: why the trial has failed, "" while it has not."""
        if reason not in FAULTS:
            return ""
        self._requests += 1
        self._errors += 1
        limits = self._pace.limits
        if self._requests < limits.requests or self._errors <= limits.error_share * self._requests:
            return ""
        return f"{self._errors} of {self._requests} requests failed, the last with {reason}"


def _ms(time_us: float) -> str:
    return f"{time_us / 1e3:.3g} ms"
