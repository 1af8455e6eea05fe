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
from tailorbird.supernet.training.blame import blamed, checked
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.precision import Precision
from tailorbird.supernet.training.ranks import Ranks, Rows
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
        # What norms gather, by torch's own name for it. Other buffers are aligned when the run ends.
        self._running = [
            buffer
            for name, buffer in net.weights.named_buffers()
            if name.rpartition(".")[2].startswith("running_") and buffer.is_floating_point()
        ]
        self._weights = [p for group in optimiser.param_groups for p in group["params"]]

    def step(
        self,
        batch: Batch,
        configs: Sequence[Config],
        *,
        full: bool,
        full_weight: float = 1.0,
        samples: float | None = None,
        facts: Sequence[float] = (),
    ) -> tuple[StepLoss, Rows]:
        """One update. full: whether the full network takes part; full_weight: of its loss.

        samples: what the batch counts for among the ranks; facts: told to them. Returns the losses, means over all
        ranks, and the facts of all ranks.

        Raises: TrainingError when a loss or a gradient is not finite; UsageError for data or a loss function that do
        not fit. Whatever ends a step before its update, weights and statistics are then those from before it.
        """
        self._optimiser.zero_grad(set_to_none=True)
        before = [buffer.clone() for buffer in self._buffers]
        try:
            losses = self._gradients(batch, configs, full=full, full_weight=full_weight)
            found, rows = self._share(losses, before, batch.size if samples is None else samples, facts)
            self._update()
        except BaseException as error:
            for buffer, kept in zip(self._buffers, before, strict=True):
                buffer.copy_(kept)  # the full network's forward pass has moved the running statistics
            if not isinstance(error, Exception):
                raise
            fault = blamed(error, self._net, batch, alone=self._ranks.size == 1)
            if fault is error:
                raise
            raise fault from error
        of_full = next((value for config, value in found if config.is_full), None)
        of_subnets = [value for config, value in found if not config.is_full]
        return StepLoss(of_full, sum(of_subnets) / len(of_subnets) if of_subnets else None), rows

    def _gradients(
        self, batch: Batch, configs: Sequence[Config], *, full: bool, full_weight: float
    ) -> list[tuple[Config, Tensor]]:
        """Add up the gradients of a batch. Returns the loss of each configuration, in order."""
        batch = Batch(batch.inputs.map(self._precision.laid_out), batch.target)
        soft = self._taught(batch)
        losses: list[tuple[Config, Tensor]] = []
        if full or soft is None:
            output = self._run(batch, Config())
            if full:
                loss = checked(self._task.loss(output, batch.known()), output, "loss")
                losses.append((Config(), loss.detach()))
                if self._recipe.soft and soft is not None:
                    loss = _between(loss, self._distance(output, soft), self._recipe.soft)
                self._backward(loss * full_weight)
            if soft is None:
                soft = pytree.tree_map_only(Tensor, Tensor.detach, output)
        for config in configs:
            output = self._run(batch, config)
            loss = self._distance(output, soft)
            if self._recipe.hard:
                hard = checked(self._task.loss(output, batch.known()), output, "loss")
                loss = _between(loss, hard, self._recipe.hard)
            losses.append((config, loss.detach()))
            self._backward(loss)
        return losses

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
            return checked(self._task.distance(output, wanted), output, "distance")
        scores, goal = (logits(x).float() for x in (output, wanted))
        return adaptive_divergence(scores.flatten(0, -2), goal.flatten(0, -2))

    def _backward(self, loss: Tensor) -> None:
        if loss.requires_grad:  # a subnet may leave out all that the user has not frozen
            self._precision.scaler.scale(loss).backward()

    def _share(
        self, losses: Sequence[tuple[Config, Tensor]], before: Sequence[Tensor], samples: float, facts: Sequence[float]
    ) -> tuple[list[tuple[Config, float]], Rows]:
        """Exchange all that this step found with the other ranks, at once.

        Raises: TrainingError when a loss of any rank is not finite, the same on all ranks.
        """
        values = torch.tensor([], device=self._net.device)
        if losses:
            values = torch.stack([loss.float().reshape(()) for _, loss in losses])
        gradients = [p.grad for p in self._weights if p.grad is not None]
        several = self._ranks.size > 1
        kept = dict(zip(self._buffers, before, strict=True)) if several else {}
        # What was added: a statistic that this step left alone stays as it is, to the bit.
        added = {buffer: buffer - kept[buffer] for buffer in (self._running if several else ())}
        rows = self._ranks.average([*gradients, *added.values(), values], samples, facts)
        for buffer, change in added.items():
            buffer.copy_(kept[buffer] + change)
        found = [(config, value) for (config, _), value in zip(losses, values.tolist(), strict=True)]
        for config, value in found:
            if not math.isfinite(value):
                raise TrainingError.not_finite("loss", config, value)
        return found, rows

    def _update(self) -> None:
        scaler = self._precision.scaler
        scaler.unscale_(self._optimiser)
        norm = nn.utils.clip_grad_norm_(self._weights, self._recipe.clip)
        if not scaler.is_enabled() and not bool(norm.isfinite()):  # the scaler leaves such a step out by itself
            raise TrainingError.not_finite("gradient")
        scaler.step(self._optimiser)
        scaler.update()


def _between(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Part of the way from one loss to another. Under autocast users' own losses come in different precisions."""
    return first + (second - first) * share
