"""What a policy is: it chooses a rung before each request and is told how the request went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tailorbird_agent.adapt.ladder import Ladder, RungProfile, make_ladder
from tailorbird_agent.adapt.switch import Cause, Switch


@dataclass(frozen=True, slots=True)
class Decision:
    """The rung that shall answer a request; switch is set when the policy now holds another one.

    A rung other than the one held, without a switch, is a detour: this request alone has less time than usual.
    """

    rung: int
    switch: Switch | None = None


class Policy(Protocol):
    """Decides which rung answers. Knows no clock, no file and no thread: time and readings come in by argument."""

    @property
    def name(self) -> str:
        """Name for tables and events, as `make_policy` takes it."""
        ...

    @property
    def ladder(self) -> Ladder:
        """The rungs, fastest first."""
        ...

    @property
    def current(self) -> int:
        """The rung the policy holds; before the first decision the largest."""
        ...

    @property
    def best_chance(self) -> float | None:
        """Chance that the smallest rung is on time, at the last decision; None where the policy has no such notion."""
        ...

    def choose(
        self,
        deadline_us: float,
        cap: int,
        now_s: float,
        cap_cause: Cause = Cause.OPERATOR,
        queued_us: float = 0.0,
    ) -> Decision:
        """Choose a rung for the next request.

        deadline_us counts from the request's arrival (inf: it has none), and queued_us of it have gone already; cap is
        the largest rung allowed, and cap_cause who set it; now_s only dates the event.
        """
        ...

    def within(self, slack_us: float, held: int) -> int:
        """The rung for one request that has only so much time left: `held` or a smaller one; changes nothing.

        When none is expected to be in time, the smallest: it makes room for the next request soonest.
        """
        ...

    def observe(self, rung: int, wall_us: float, cpu_us: float, deadline_us: float, now_s: float) -> None:
        """Learn from an answered request: its wall time, and the on-CPU time of its busiest thread."""
        ...


class LadderPolicy:
    """What all policies share: a ladder, the rung held now, and events for moves between rungs."""

    def __init__(self, name: str, ladder: Ladder) -> None:
        self.name = name
        self.ladder: tuple[RungProfile, ...] = make_ladder(ladder)
        self.current = len(self.ladder) - 1
        self.best_chance: float | None = None
        self._steady = tuple(Decision(index) for index in range(len(self.ladder)))
        self._capped: tuple[int, Cause] | None = None

    def within(self, slack_us: float, held: int) -> int:
        """The most accurate rung, `held` at most, whose profiled time fits, else the smallest."""
        fitting = [index for index in range(held + 1) if self.ladder[index].cpu_us <= slack_us]
        return max(fitting, key=lambda index: self.ladder[index].accuracy, default=0)

    def _top(self, cap: int) -> int:
        """Largest rung allowed under a cap; the smallest rung is always allowed, something must answer."""
        return max(0, min(cap, len(self.ladder) - 1))

    def _cause(self, target: int, top: int, cap_cause: Cause, otherwise: Cause) -> Cause:
        """Blame a cap for the move it forced, and for the move back above it once it lifts; call once per move."""
        if self.current > top:
            self._capped = top, cap_cause
            return cap_cause
        if self._capped is None or target <= self._capped[0]:
            return otherwise
        cause = self._capped[1]
        # A cap that gives back one rung at a time is to blame for each.
        self._capped = (top, cause) if top < len(self.ladder) - 1 else None
        return cause
