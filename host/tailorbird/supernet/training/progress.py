"""Progress: what a training run tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run after a step. Scores are of the last check on validation data, None before the first.

    share: of the run that is done, 0 to 1; rate: images, tokens or samples (`unit`) a second over the last steps;
    eta_s: seconds left; note: something worth a line of its own, such as a back-off; checked: whether the scores are of
    this step.
    """

    step: int
    planned: int | None
    share: float
    loss: float | None
    subnet_loss: float | None
    learning_rate: float
    seconds: float
    rate: float
    unit: str
    eta_s: float | None
    full: float | None = None
    smallest: float | None = None
    random: float | None = None
    note: str = ""
    checked: bool = False


OnProgress = Callable[[Progress], None]
