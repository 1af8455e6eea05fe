"""SlackFit, or what of it concerns one request at a time: spend the slack on accuracy.

Khare et al., "SuperServe: Fine-Grained Inference Serving for Unpredictable Workloads", NSDI 2025: the request's slack
picks, from the profiled latencies, the slowest subnet that fits it. Batches are left out. The policy trusts its
profile: it adapts to queueing and deadlines, and to nothing that it observes about the device.
"""

from __future__ import annotations

from tailorbird_agent.adapt.ladder import Ladder
from tailorbird_agent.adapt.policy import Decision, LadderPolicy
from tailorbird_agent.adapt.switch import Cause, Return, Switch


class SlackFit(LadderPolicy):
    """The most accurate rung whose profiled time fits what is left of the deadline."""

    def __init__(self, ladder: Ladder) -> None:
        super().__init__("slackfit", ladder)

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,
    ) -> Decision:
        """The best rung that fits; the fastest when none does."""
        slack_us = deadline_us - queued_us
        top = self._top(cap)
        fitting = [index for index in range(top + 1) if self.ladder[index].cpu_us <= slack_us]
        target = max(fitting, key=lambda index: self.ladder[index].accuracy, default=0)
        if target == self.current:
            return self._steady[target]
        cause = self._cause(target, top, cap_cause, Cause.DEADLINE)
        source, self.current = self.current, target
        old, new = self.ladder[source], self.ladder[target]
        down = new.cpu_us < old.cpu_us
        back = Return("deadline", old.cpu_us if down else new.cpu_us, below=not down)
        return Decision(target, Switch(now_s, source, target, old.name, new.name, cause, slack_us, outlook=back))

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:
        """Nothing is learned."""
