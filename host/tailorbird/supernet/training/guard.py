"""Guard: the full network is the user's own model, and training must not spoil it.

On validation data it may lose `max_drop` by the end of the run, and a little more on the way there. Where it loses more
training backs off: half the learning rate, and twice the weight for the full network. What is still lost at the end is
made good by moving all weights back towards where they started, as far as needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tailorbird.supernet.training.ema import copied, put

_SLACK = 4.0  # drops allowed at the start of the run, as multiples of the one allowed at its end
_BACK_OFF = 0.5
_HALVINGS = 4  # bisection steps when moving back
_MOST_BACK_OFFS = 4


@dataclass
class Guard:
    """Watches the figure of merit of the full network.

    score: measures it; start: all weights at the start of the run; before: their score; rate, weight: factors for the
    learning rate and for the loss of the full network; backed_off: how often.
    """

    score: Callable[[], float]
    max_drop: float
    start: Mapping[str, Tensor]
    before: float
    rate: float = 1.0
    weight: float = 1.0
    backed_off: int = 0
    seen: list[tuple[float, float]] = field(default_factory=list)

    def check(self, share: float) -> float:
        """Measure at a point of the run, 0 to 1, and back off if need be. Returns the score."""
        now = self.score()
        self.seen.append((share, now))
        allowed = self.max_drop * (_SLACK + (1 - _SLACK) * share)
        if self.before - now > allowed and self.backed_off < _MOST_BACK_OFFS:
            self.rate *= _BACK_OFF
            self.weight /= _BACK_OFF
            self.backed_off += 1
        return now

    def settle(self, module: nn.Module) -> tuple[float, float]:
        """Bring the full network within bounds. Returns its score, and the share of the update that was kept."""
        after = self.score()
        if self.before - after <= self.max_drop:
            return after, 1.0
        live, end = dict(nn.Module.state_dict(module)), copied(module)
        good, bad, kept = 0.0, 1.0, self.before
        for _ in range(_HALVINGS):
            share = (good + bad) / 2
            put(live, self._mixed(end, share))
            after = self.score()
            if self.before - after <= self.max_drop:
                good, kept = share, after
            else:
                bad = share
        put(live, self._mixed(end, good))
        return kept, good

    def _mixed(self, end: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Weights between the start and the end; at share 0 they are those of the start, bit for bit."""
        if not share:
            return dict(self.start)
        return {
            name: torch.lerp(self.start[name], value, share) if value.is_floating_point() else self.start[name]
            for name, value in end.items()
        }

    def state(self) -> dict[str, Any]:
        """What a later run goes on with."""
        return {
            "before": self.before,
            "rate": self.rate,
            "weight": self.weight,
            "backed_off": self.backed_off,
            "seen": self.seen,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.before, self.rate, self.weight = state["before"], state["rate"], state["weight"]
        self.backed_off, self.seen = state["backed_off"], [tuple(pair) for pair in state["seen"]]
