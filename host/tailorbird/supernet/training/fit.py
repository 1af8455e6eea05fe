"""Fit: train all subnets of a SuperNet together.

The sandwich rule with in-place distillation (Yu and Huang, ICCV 2019; Yu et al., "BigNAS", ECCV 2020): each step trains
the full network on the labels, then the smallest and some random subnets on the full network's soft answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.measure import accuracy
from tailorbird.supernet.loader import Batch, logits, read
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

Loss = Callable[[Tensor, Tensor], Tensor]
Validate = Callable[[], float] | Iterable[Any]

_WARM_UP = 0.05  # share of the schedule in which the learning rate rises
_MOMENTUM = 0.9
_LARGEST_GRADIENT_NORM = 5.0
_RETREATS = (0.5, 0.25, 0.0)  # shares of the update kept when the full network lost too much


@dataclass(frozen=True, slots=True)
class FitResult:
    """What a training run did. Losses are of the full network; accuracies are fractions, None without validation.

    update_kept: 1.0 normally; less when the full network lost more than allowed and the weights were moved back towards
    where they started (0.0: restored).
    """

    steps: int
    images: int
    seconds: float
    stopped_by: str  # steps | max_seconds
    first_loss: float
    last_loss: float
    full_before: float | None
    full_after: float | None
    update_kept: float

    @property
    def message(self) -> str:
        """One sentence for people."""
        text = f"{self.steps} steps in {self.seconds:.1f} s (loss {self.first_loss:.3f} to {self.last_loss:.3f})"
        if self.full_before is not None and self.full_after is not None:
            text += f"; full network {self.full_before:.1%} before, {self.full_after:.1%} after"
        if self.update_kept < 1:
            text += f"; kept {self.update_kept:.0%} of the update to protect the full network"
        return text


def fit(
    net: SuperNet,
    loader: Iterable[Any],
    *,
    epochs: int | None = None,
    steps: int | None = None,
    lr: float = 0.02,
    n_random: int = 1,
    loss: Loss = functional.cross_entropy,
    teacher: str = "in-place",
    seed: int = 0,
    max_seconds: float | None = None,
    validate: Validate | None = None,
    max_drop: float = 0.005,
    depth: str = "independent",
    on_progress: Callable[[int, int, float], None] | None = None,
) -> FitResult:
    """Train the shared weights with SGD (Nesterov), warm-up, cosine schedule and gradient clipping.

    loader: a collection of (inputs, labels) that can be read again for each epoch; give `epochs` or `steps` (default:
    one epoch), `max_seconds` ends the run, and the schedule, earlier. n_random: random subnets in each step. teacher:
    "in-place" distils from the full network as it trains, "frozen" from a copy of it taken at the start. validate: a
    loader, or a function returning the full network's accuracy; with it the full network may lose at most `max_drop`,
    or else the update is taken back, in part or whole. depth: how random subnets skip blocks, see
    `SearchSpace.sample`. on_progress: called with (step, planned steps, loss).

    Recalibrated statistics are dropped: they do not fit the new weights. Raises: UsageError.
    """
    if teacher not in {"in-place", "frozen"}:
        raise UsageError(f"no teacher is called {teacher!r}", fix="pass 'in-place' or 'frozen'")
    if epochs is not None and steps is not None:
        raise UsageError("epochs and steps exclude each other", fix="pass one of them")
    planned = steps if steps is not None else _epoch_steps(loader, epochs or 1)
    score = _scorer(net, validate)
    before = score() if score else None
    start = _trained_state(net)
    was_training = net.training
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        run = _Run(net, loss, n_random, net.extract() if teacher == "frozen" else None, seed, depth)
        result = run.steps(_forever(net, loader), planned, lr, max_seconds, on_progress)
    net.train(was_training)
    net.forget_statistics()
    after, kept = _protect(net, score, before, start, max_drop)
    return FitResult(**result, full_before=before, full_after=after, update_kept=kept)


class _Run:
    """One training run: the optimiser and the step."""

    def __init__(
        self, net: SuperNet, loss: Loss, n_random: int, teacher: nn.Module | None, seed: int, depth: str
    ) -> None:
        self.net, self.loss, self.n_random, self.teacher = net, loss, n_random, teacher
        self.seed, self.depth = seed, depth
        self.weights = [p for p in net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(self.weights, lr=0.0, momentum=_MOMENTUM, nesterov=True)

    def steps(
        self,
        batches: Iterator[Batch],
        planned: int,
        lr: float,
        max_seconds: float | None,
        on_progress: Callable[[int, int, float], None] | None,
    ) -> dict[str, Any]:
        begin = time.monotonic()
        losses: list[float] = []
        images, stopped_by = 0, "steps"
        self.net.train()
        for step in range(planned):
            elapsed = time.monotonic() - begin
            if max_seconds is not None and elapsed >= max_seconds:
                stopped_by = "max_seconds"
                break
            share = max(step / planned, elapsed / max_seconds if max_seconds else 0.0)
            for group in self.optimiser.param_groups:
                group["lr"] = lr * _schedule(share)
            batch = next(batches)
            losses.append(self.step(batch, step))
            images += batch.size
            if on_progress is not None:
                on_progress(step + 1, planned, losses[-1])
        return {
            "steps": len(losses),
            "images": images,
            "seconds": time.monotonic() - begin,
            "stopped_by": stopped_by,
            "first_loss": losses[0] if losses else math.nan,
            "last_loss": losses[-1] if losses else math.nan,
        }

    def step(self, batch: Batch, number: int) -> float:
        """Full network on the labels, smallest and random subnets on soft answers, one update. Returns the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        scores = logits(self.net(*batch.inputs.args, **batch.inputs.kwargs))
        hard = self.loss(scores, batch.known())
        hard.backward()
        soft = scores.detach()
        if self.teacher is not None:
            with torch.no_grad():
                soft = logits(self.teacher(*batch.inputs.args, **batch.inputs.kwargs))
        target = soft.softmax(-1)
        for config in self._subnets(number):
            answer = logits(self.net(*batch.inputs.args, config=config, **batch.inputs.kwargs))
            functional.cross_entropy(answer.flatten(0, -2), target.flatten(0, -2)).backward()
        nn.utils.clip_grad_norm_(self.weights, _LARGEST_GRADIENT_NORM)
        self.optimiser.step()
        return float(hard.detach())

    def _subnets(self, step: int) -> list[Config]:
        space = self.net.space
        seeds = ((self.seed * 1_000_003 + step) * 64 + index for index in range(self.n_random))
        drawn = [space.sample(seed, self.depth) for seed in seeds]
        return [config for config in (space.smallest(), *drawn) if not config.is_full]


def _schedule(share: float) -> float:
    """Learning-rate factor after a share of the run: linear warm-up, then a half cosine to 0."""
    if share < _WARM_UP:
        return (share + 0.01) / (_WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - _WARM_UP) / (1 - _WARM_UP))))


def _epoch_steps(loader: Iterable[Any], epochs: int) -> int:
    try:
        return epochs * len(loader)  # type: ignore[arg-type]
    except TypeError:
        return epochs * sum(1 for _ in loader)


def _forever(net: SuperNet, loader: Iterable[Any]) -> Iterator[Batch]:
    device = net.device
    while True:
        empty = True
        for batch in read(loader, device):
            empty = False
            yield batch
        if empty:
            raise UsageError(
                "the training loader gave no batch",
                why="it is empty, or a generator that was used up",
                fix="pass a DataLoader or a list of batches, which can be read more than once",
            )


def _scorer(net: SuperNet, validate: Validate | None) -> Callable[[], float] | None:
    if validate is None:
        return None
    if callable(validate):
        return validate
    data = validate
    return lambda: accuracy(net, Config(), data)


def _trained_state(net: SuperNet) -> dict[str, Tensor]:
    """A copy of all that training changes: the user's state dict and what the SuperNet holds besides."""
    return {name: value.clone() for name, value in nn.Module.state_dict(net).items()}


def _protect(
    net: SuperNet,
    score: Callable[[], float] | None,
    before: float | None,
    start: dict[str, Tensor],
    max_drop: float,
) -> tuple[float | None, float]:
    """Move the weights back until the full network is within `max_drop` of its accuracy at the start."""
    if score is None or before is None:
        return None, 1.0
    after = score()
    if before - after <= max_drop:
        return after, 1.0
    end = _trained_state(net)
    for share in _RETREATS:
        mixed = {
            name: torch.lerp(start[name], value, share) if value.is_floating_point() else start[name]
            for name, value in end.items()
        }
        nn.Module.load_state_dict(net, mixed if share else start)
        after = score()
        if before - after <= max_drop:
            return after, share
    return after, 0.0
