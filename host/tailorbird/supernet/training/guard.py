"""Guard: the full network is the user's own model, and training must not spoil it.

Training at a rate that teaches the subnets something moves the full network away from its optimum. What makes that good
is averaging: weights between those of the start and of the end keep the full network, which there is often better than
at either, and most of what the subnets learnt (for fine-tuning: Wortsman et al., "Robust fine-tuning of zero-shot
models", CVPR 2022). At the end of a run the guard takes the largest share of the update at which the full network
loses no more than `max_drop` on validation data. Where it loses far more on the way there, such weights would hardly be
worth having: training backs off, with half the learning rate, and twice the weight for the full network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tailorbird.supernet.training.ema import copied, put, tensors

_SLACK = 0.2  # what the full network may lose on the way, a fraction; averaging makes it good
_BACK_OFF = 0.5
_HALVINGS = 5  # bisection steps for the share
#: Times that settling takes at most, in those of one score: finding statistics takes about as long.
SCORES = 2 * (_HALVINGS + 1)
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
        # Early on rates are high and averages lag behind: only what has diverged backs off then.
        bound = self.max_drop + max(_SLACK, 1 - 2 * share)
        if not self.before - now <= bound and self.backed_off < _MOST_BACK_OFFS:  # a score of nan is a loss too
            self.rate *= _BACK_OFF
            self.weight /= _BACK_OFF
            self.backed_off += 1
        return now

    def settle(self, module: nn.Module, refresh: Callable[[], None]) -> tuple[float, float]:
        """Bring the full network within bounds. Returns its score, and the share of the update that was kept.

        refresh: finds the running statistics of the weights that the module then holds.
        """
        after = self.score()
        if self.before - after <= self.max_drop:
            return after, 1.0
        live, end = tensors(module), copied(module)
        good, bad, kept = 0.0, 1.0, self.before
        for _ in range(_HALVINGS):
            share = (good + bad) / 2
            self._move(live, end, share, refresh)
            after = self.score()
            if self.before - after <= self.max_drop:
                good, kept = share, after
            else:
                bad = share
        self._move(live, end, good, refresh)
        return kept, good

    def _move(
        self, live: Mapping[str, Tensor], end: Mapping[str, Tensor], share: float, refresh: Callable[[], None]
    ) -> None:
        """Weights between the start and the end; at share 0 they are those of the start, bit for bit."""
        if not share:
            put(live, self.start)
            return
        mixed = {
            name: torch.lerp(self.start[name], value, share) if value.is_floating_point() else self.start[name]
            for name, value in end.items()
        }
        put(live, mixed)
        refresh()

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
