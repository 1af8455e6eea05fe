"""Recipe: every setting that decides what a training run computes. Stored in checkpoints, so that a run can go on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from tailorbird.errors import UsageError

_WORDS = {
    "teacher": ("frozen", "in-place", "given"),
    "distillation": ("distance", "alpha"),
    "sampling": ("compound-first", "compound", "independent"),
    "depth": ("independent", "stages"),
    "optimiser": ("auto", "sgd", "adamw"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "keep": ("average", "best"),
    "full": ("auto", "kept", "trained"),
}

_SEEDS = 2**63
#: May be None: no limit, or as the optimiser has it.
_OPEN = frozenset({"epochs", "steps", "budget_s", "lr"})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the subnets are trained together. Defaults suit a network that is trained already.

    epochs, steps, budget_s   what ends the run; the schedule follows whichever is nearer to its end
    optimiser, lr             "auto" is SGD with Nesterov momentum for networks with batch_norm, AdamW for others
    full                      "kept": the full network stays as it is, bit for bit, and subnets get weights of their own
                              beside it, see `learnt`; "trained": all share one set of weights, the full network learns
                              with the subnets, and is protected by `max_drop`; "auto": kept, unless it is to teach as
                              it learns, or the best weights are to be found by it
    n_random, full_every      random subnets in a step; the full network, if it is trained, takes part in every n-th
    sampling                  random subnets change all dimensions by one ratio ("compound": Sahni et al., "CompOFA",
                              ICLR 2021), each by its own ("independent"), or one after the other ("compound-first")
    ratios                    curriculum: no dimension falls below this part of its size in equal parts of the run; the
                              last part uses the whole search space
    depth                     which blocks random subnets skip, see SearchSpace.sample
    teacher                   "frozen": the network as it was at the start; "in-place": the full network as it learns
                              (Yu et al., "BigNAS", ECCV 2020); "given": a module that was passed instead of a word
    distillation              "distance" of the task, or "alpha": the adaptive alpha-divergence of AlphaNet
    hard, soft                weight of the labels for subnets, and of the teacher for the full network
    warm_up, clip, ema        share of the schedule; largest gradient norm; decay of the averaged weights, 0: none
    max_drop                  what the full network may lose on validation data, a fraction
    keep                      what the run leaves: the averaged weights, or the best on validation data ("best") of
                              these, the last ones and those of the start
    """

    epochs: int | None = None
    steps: int | None = None
    budget_s: float | None = None
    optimiser: str = "auto"
    lr: float | None = None
    weight_decay: float | None = None
    full: str = "auto"
    n_random: int = 2
    full_every: int = 1
    sampling: str = "compound-first"
    ratios: tuple[float, ...] = (0.75, 0.5, 0.25)
    depth: str = "independent"
    teacher: str = "frozen"
    distillation: str = "distance"
    hard: float = 0.0
    soft: float = 0.5
    warm_up: float = 0.05
    clip: float = 5.0
    ema: float = 0.99
    precision: str = "auto"
    channels_last: bool | None = None
    max_drop: float = 0.003
    keep: str = "average"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises: UsageError for a value that makes no sense."""
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise UsageError(
                    f"no {name} is called {getattr(self, name)!r}", fix=f"pass one of {', '.join(map(repr, words))}"
                )
        if self.epochs is not None and self.steps is not None:
            raise UsageError("epochs and steps exclude each other", fix="pass one of them")
        for name, least in (("epochs", 1), ("steps", 1), ("n_random", 0), ("full_every", 1)):
            value = getattr(self, name)
            left_out = value is None and name in _OPEN
            if not left_out and not (_is_number(value, int) and value >= least):
                raise UsageError(f"{name} is {value!r}", fix=f"pass a whole number of at least {least}")
        for name in ("budget_s", "lr", "clip"):
            value = getattr(self, name)
            left_out = value is None and name in _OPEN
            if not left_out and not (_is_number(value) and value > 0 and math.isfinite(value)):
                raise UsageError(f"{name.removesuffix('_s')} is {value!r}", fix="pass a positive number")
        for name, most in (("hard", 1), ("soft", 1), ("warm_up", 0.5), ("ema", 0.99999), ("max_drop", 1)):
            value = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= most):
                raise UsageError(f"{name} is {value!r}", fix=f"pass a number from 0 to {most}")
        if self.full == "kept" and (self.teacher == "in-place" or self.keep == "best"):
            raise UsageError(
                "the full network cannot be kept as it is",
                why="it is to teach as it learns" if self.teacher == "in-place" else "the best weights are found by it",
                fix="leave full at 'auto', or pass teacher='frozen' and keep='average'",
            )
        decay = self.weight_decay
        if decay is not None and not (_is_number(decay) and 0 <= decay < math.inf):
            raise UsageError(f"weight_decay is {decay!r}", fix="pass a number from 0")
        if not _is_number(self.seed, int) or not -_SEEDS <= self.seed < _SEEDS:
            raise UsageError(f"seed is {self.seed!r}", fix="pass a whole number of at most 63 bits")
        listed = isinstance(self.ratios, tuple | list)
        if not listed or any(not isinstance(ratio, float) or not 0 < ratio < 1 for ratio in self.ratios):
            raise UsageError(f"ratios are {self.ratios}", fix="pass numbers between 0 and 1, or none")

    @property
    def keeps_full(self) -> bool:
        """Whether the full network stays as it is, where there are subnets to train."""
        return self.full == "kept" or (self.full == "auto" and self.teacher != "in-place" and self.keep != "best")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"ratios": list(self.ratios)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Recipe:
        """Inverse of to_json."""
        known: dict[str, Any] = values | {"ratios": tuple(values["ratios"])}
        return cls(**known)


def _is_number(value: object, kind: Any = (int, float)) -> TypeGuard[float]:
    return isinstance(value, kind) and not isinstance(value, bool)
