"""Sandwich: one training step. The full network on the labels, the smallest and some random subnets on its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tailorbird.graph import Mode
from tailorbird.supernet.loader import Batch, logits
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.alpha import adaptive_divergence
from tailorbird.supernet.training.blame import blamed, checked
from tailorbird.supernet.training.crew import Crew, promised
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.precision import Precision
from tailorbird.supernet.training.ranks import Ranks, Rows
from tailorbird.supernet.training.recipe import Recipe
from tailorbird.supernet.training.teacher import FrozenTeacher
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


#: A configuration, its loss, and the gradient of every weight that has one.
Found = tuple[Config, Tensor, Sequence[Tensor | None]] | None


@dataclass(frozen=True, slots=True)
class StepLoss:
    """Losses of a step: of the full network on the labels (None in steps without it), of the subnets on average."""

    full: float | None
    subnets: float | None

    @property
    def main(self) -> float | None:
        """Of the full network, of the subnets where it takes no part."""
        return self.subnets if self.full is None else self.full


class Sandwich:
    """Computes gradients of the shared weights and applies them.

    teacher: a function of the network's inputs; None distils from the full network as it trains.
    """

    def __init__(
        self,
        net: SuperNet,
        task: Task,
        recipe: Recipe,
        precision: Precision,
        optimiser: torch.optim.Optimizer,
        teacher: Callable[..., Any] | None,
        ranks: Ranks,
        crew: Crew,
    ) -> None:
        self._crew = crew
        self._net, self._task, self._recipe, self._precision = net, task, recipe, precision
        self._optimiser, self._teacher, self._ranks = optimiser, teacher, ranks
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
        self._prepare(batch, configs)
        soft: Future[Any] = Future()
        jobs: list[Callable[[], Found]] = []
        if self._teacher is not None:
            jobs.append(promised(soft, lambda: self._teach(batch, soft)))
        if full or self._teacher is None:
            jobs.append(promised(soft, lambda: self._full(batch, soft, full_weight if full else None)))
        jobs += [partial(self._subnet, batch, config, soft) for config in configs]
        losses: list[tuple[Config, Tensor]] = []
        for entry in self._crew.run(jobs):
            if entry is not None:
                config, loss, gradients = entry
                losses.append((config, loss))
                self._add(gradients)
        return losses

    def _add(self, gradients: Sequence[Tensor | None]) -> None:
        for weight, gradient in zip(self._weights, gradients, strict=True):
            if gradient is not None and weight.grad is None:
                weight.grad = torch.empty_like(weight).copy_(gradient)  # its own: two weights may be given the same one
            elif gradient is not None and weight.grad is not None:
                weight.grad += gradient

    def _prepare(self, batch: Batch, configs: Sequence[Config]) -> None:
        """Make what runs subnets, here in the main thread."""
        leaves = self._net.bound(batch.inputs).leaves
        for config in configs:
            self._net.at(leaves, config).plan(config, Mode.TRAIN)
        if isinstance(self._teacher, FrozenTeacher):
            self._teacher.prepare(leaves)
        elif self._teacher is not None:
            self._net.at(leaves, Config())

    def _teach(self, batch: Batch, soft: Future[Any]) -> None:
        assert self._teacher is not None
        with torch.no_grad(), self._precision.computing():
            soft.set_result(self._teacher(*batch.inputs.args, **batch.inputs.kwargs))

    def _full(self, batch: Batch, soft: Future[Any], weight: float | None) -> Found:
        """The full network, which teaches where nobody else does; it learns with a weight."""
        output = self._run(batch, Config())
        if self._teacher is None:
            soft.set_result(pytree.tree_map_only(Tensor, Tensor.detach, output))
        if weight is None:
            return None
        loss = checked(self._task.loss(output, batch.known()), output, "loss")
        value = loss.detach()
        if self._recipe.soft and self._teacher is not None:
            loss = _between(loss, self._distance(output, soft.result()), self._recipe.soft)
        return Config(), value, self._differentiated(loss * weight)

    def _subnet(self, batch: Batch, config: Config, soft: Future[Any]) -> Found:
        output = self._run(batch, config)
        loss = self._distance(output, soft.result())
        if self._recipe.hard:
            hard = checked(self._task.loss(output, batch.known()), output, "loss")
            loss = _between(loss, hard, self._recipe.hard)
        return config, loss.detach(), self._differentiated(loss)

    def _run(self, batch: Batch, config: Config) -> Any:
        with self._precision.computing():
            return self._net(*batch.inputs.args, config=config, **batch.inputs.kwargs)

    def _distance(self, output: Any, wanted: Any) -> Tensor:
        if self._recipe.distillation == "distance":
            return checked(self._task.distance(output, wanted), output, "distance")
        scores, goal = (logits(x).float() for x in (output, wanted))
        if self._task.name == "segmentation":
            scores, goal = scores.movedim(1, -1), goal.movedim(1, -1)
        return adaptive_divergence(scores.flatten(0, -2), goal.flatten(0, -2))

    def _differentiated(self, loss: Tensor) -> Sequence[Tensor | None]:
        if not loss.requires_grad:  # a subnet may leave out all that the user has not frozen
            return [None] * len(self._weights)
        return torch.autograd.grad(self._precision.scaler.scale(loss), self._weights, allow_unused=True)

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
