"""Whether the deadline can be met at all: worth telling once, when it changes."""

from __future__ import annotations

#: Even the smallest rung is likelier late than not; likely on time again. Between the two nothing changes.
_HOPELESS, _HOPEFUL = 0.5, 0.8
#: Requests in a row that must agree: a single one that had queued too long says nothing about the device.
_AGREEING = 8


class Feasibility:
    """Follows the smallest rung's chance to be on time from request to request."""

    def __init__(self) -> None:
        self.feasible = True
        self._against = 0

    def look(self, chance: float | None) -> bool:
        """Take note of one decision's chance; whether `feasible` has just changed. None: the policy cannot tell."""
        if chance is None or (chance >= _HOPELESS if self.feasible else chance < _HOPEFUL):
            self._against = 0
            return False
        self._against += 1
        if self._against < _AGREEING:
            return False
        self.feasible, self._against = not self.feasible, 0
        return True
