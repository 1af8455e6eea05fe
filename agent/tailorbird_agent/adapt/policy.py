"""What a policy is: it chooses a rung before each request and is told how the request went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tailorbird_agent.adapt.ladder import Ladder, RungProfile, make_ladder
from tailorbird_agent.adapt.switch import Cause, Switch


@dataclass(frozen=True, slots=True)
class Decision:
    """The rung that shall answer a request; switch is set when it is another than last time's."""

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
        """The rung that the last decision chose; before the first decision the largest."""
        ...

    def choose(self, deadline_us: float, cap: int, now_s: float, cap_cause: Cause = Cause.OPERATOR) -> Decision:
        """Choose a rung for the next request.

        deadline_us is the time left for it (queueing already taken off); cap the largest rung allowed, and cap_cause
        who set it; now_s only dates the event.
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
        self._steady = tuple(Decision(index) for index in range(len(self.ladder)))
        self._capped_by: Cause | None = None

    def _top(self, cap: int) -> int:
        """Largest rung allowed under a cap; the smallest rung is always allowed, something must answer."""
        return max(0, min(cap, len(self.ladder) - 1))

    def _cause(self, target: int, top: int, cap_cause: Cause, otherwise: Cause) -> Cause:
        """Blame the cap for a move it forced, and for the move back once it lifted; call once per move."""
        if self.current > top:
            self._capped_by = cap_cause
            return cap_cause
        capped_by, self._capped_by = self._capped_by, None
        return capped_by if capped_by is not None and target > self.current else otherwise
