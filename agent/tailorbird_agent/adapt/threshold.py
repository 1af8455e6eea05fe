"""Two thresholds on the smoothed latency: what most products do."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird_agent.adapt.ladder import Ladder
from tailorbird_agent.adapt.policy import Decision, LadderPolicy
from tailorbird_agent.adapt.switch import Cause, Return, Switch


@dataclass(frozen=True, slots=True)
class ThresholdSettings:
    """high and low are shares of the deadline; smoothing is the weight of the newest latency."""

    high: float = 0.9
    low: float = 0.5
    smoothing: float = 0.2


class Threshold(LadderPolicy):
    """One rung down above `high` x deadline, one up below `low` x deadline, then forget the average and start again."""

    def __init__(self, ladder: Ladder, settings: ThresholdSettings | None = None) -> None:
        super().__init__("threshold", ladder)
        self._settings = settings or ThresholdSettings()
        self._latency_us: float | None = None

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,
    ) -> Decision:
        """Move at most one rung, further only when a cap demands it."""
        deadline_us -= queued_us
        top = self._top(cap)
        target = min(self.current, top)
        latency_us = self._latency_us
        if target == self.current and latency_us is not None:
            if latency_us > self._settings.high * deadline_us and target > 0:
                target -= 1
            elif latency_us < self._settings.low * deadline_us and target < top:
                target += 1
        if target == self.current:
            return self._steady[target]
        # One latency cannot tell slow silicon from waiting; all this policy knows is that it compares to the deadline.
        cause = self._cause(target, top, cap_cause, Cause.DEADLINE)
        source, self.current, self._latency_us = self.current, target, None
        down = target < source
        share = self._settings.low if down else self._settings.high
        switch = Switch(
            now_s,
            source,
            target,
            self.ladder[source].name,
            self.ladder[target].name,
            cause,
            deadline_us,
            outlook=Return("latency", share * deadline_us, below=down),
        )
        return Decision(target, switch)

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:  # noqa: ARG002
        """Smooth the wall time exponentially."""
        weight = self._settings.smoothing
        smoothed = self._latency_us
        self._latency_us = wall_us if smoothed is None else (1.0 - weight) * smoothed + weight * wall_us
