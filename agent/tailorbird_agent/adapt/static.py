"""One fixed rung: the bar that any adaptive policy has to pass."""

from __future__ import annotations

from tailorbird_agent.adapt.ladder import Ladder
from tailorbird_agent.adapt.policy import Decision, LadderPolicy
from tailorbird_agent.adapt.switch import Cause, Switch


class Static(LadderPolicy):
    """Always the same rung; only a cap moves it."""

    def __init__(self, name: str, ladder: Ladder, rung: int) -> None:
        super().__init__(name, ladder)
        self._rung = rung
        self.current = rung

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,  # noqa: ARG002
    ) -> Decision:
        """The fixed rung, or the cap if that is lower."""
        top = self._top(cap)
        target = min(self._rung, top)
        if target == self.current:
            return self._steady[target]
        cause = self._cause(target, top, cap_cause, Cause.OPERATOR)
        source, self.current = self.current, target
        names = self.ladder[source].name, self.ladder[target].name
        return Decision(target, Switch(now_s, source, target, *names, cause, deadline_us))

    def within(self, slack_us: float, held: int) -> int:  # noqa: ARG002
        """The same rung: whoever fixed it wants no other."""
        return held

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:
        """Nothing to learn."""
