"""Sandwich: one training step. The full network on the labels, the smallest and some random subnets on its answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tailorbird.supernet.loader import Batch, logits
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.alpha import adaptive_divergence
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.precision import Precision
from tailorbird.supernet.training.ranks import Ranks
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True)
class StepLoss:
    """Losses of a step: of the full network on the labels (None in steps without it), of the subnets on average."""

    full: float | None
    subnets: float | None


class Sandwich:
    """Computes gradients of the shared weights and applies them.

    teacher: the network as it was at the start; None distils from the full network as it trains.
    """

    def __init__(
        self,
        net: SuperNet,
        task: Task,
        recipe: Recipe,
        precision: Precision,
        optimiser: torch.optim.Optimizer,
        teacher: nn.Module | None,
        ranks: Ranks,
    ) -> None:
        self._net, self._task, self._recipe, self._precision = net, task, recipe, precision
        self._optimiser, self.teacher, self._ranks = optimiser, teacher, ranks
        self._buffers = list(net.weights.buffers())
        self._running = [b for b in self._buffers if b.is_floating_point()]
        self._weights = [p for group in optimiser.param_groups for p in group["params"]]

    def step(self, batch: Batch, configs: Sequence[Config], *, full: bool, full_weight: float = 1.0) -> StepLoss:
        """One update. full: whether the full network takes part; full_weight: of its loss.

        Raises: TrainingError when a loss or a gradient is not finite; the weights are then those before the step.
        """
        self._optimiser.zero_grad(set_to_none=True)
        before = [buffer.clone() for buffer in self._buffers]
        try:
            return self._step(batch, configs, full=full, full_weight=full_weight)
        except TrainingError:
            for buffer, kept in zip(self._buffers, before, strict=True):
                buffer.copy_(kept)  # what is not finite went into the running statistics
            raise

    def _step(self, batch: Batch, configs: Sequence[Config], *, full: bool, full_weight: float) -> StepLoss:
        batch = Batch(batch.inputs.map(self._precision.laid_out), batch.target)
        soft = self._taught(batch)
        losses: list[tuple[Config, Tensor]] = []
        if full or soft is None:
            output = self._run(batch, Config())
            if full:
                loss = self._task.loss(output, batch.known())
                losses.append((Config(), loss.detach()))
                if self._recipe.soft and soft is not None:
                    loss = torch.lerp(loss, self._distance(output, soft), self._recipe.soft)
                self._backward(loss * full_weight)
            if soft is None:
                soft = pytree.tree_map_only(Tensor, Tensor.detach, output)
        for config in configs:
            output = self._run(batch, config)
            loss = self._distance(output, soft)
            if self._recipe.hard:
                loss = torch.lerp(loss, self._task.loss(output, batch.known()), self._recipe.hard)
            losses.append((config, loss.detach()))
            self._backward(loss)
        found = [(config, float(loss)) for config, loss in losses]
        self._update(next(((config, value) for config, value in found if not math.isfinite(value)), None))
        of_subnets = [value for config, value in found if not config.is_full]
        return StepLoss(
            next((value for config, value in found if config.is_full), None),
            sum(of_subnets) / len(of_subnets) if of_subnets else None,
        )

    def _run(self, batch: Batch, config: Config) -> Any:
        with self._precision.computing():
            return self._net(*batch.inputs.args, config=config, **batch.inputs.kwargs)

    def _taught(self, batch: Batch) -> Any:
        if self.teacher is None:
            return None
        with torch.no_grad(), self._precision.computing():
            return self.teacher(*batch.inputs.args, **batch.inputs.kwargs)

    def _distance(self, output: Any, wanted: Any) -> Tensor:
        if self._recipe.distillation == "distance":
            return self._task.distance(output, wanted)
        scores, goal = (logits(x).float() for x in (output, wanted))
        return adaptive_divergence(scores.flatten(0, -2), goal.flatten(0, -2))

    def _backward(self, loss: Tensor) -> None:
        self._precision.scaler.scale(loss).backward()

    def _update(self, bad: tuple[Config, float] | None) -> None:
        # Running statistics and the alarm travel with the gradients: one exchange for each step, whatever is in it.
        alarm = torch.tensor(float(bad is not None))
        shared = self._running if self._ranks.size > 1 else []
        self._ranks.average([*(p.grad for p in self._weights if p.grad is not None), *shared, alarm])
        if float(alarm):
            raise TrainingError.not_finite("loss", *(bad or (None, None)))
        scaler = self._precision.scaler
        scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._weights, self._recipe.clip)
        if not scaler.is_enabled() and not bool(norm.isfinite()):  # the scaler leaves such a step out by itself
            raise TrainingError.not_finite("gradient")
        scaler.step(self._optimiser)
        scaler.update()
