"""Training a cost network by order: on a corpus, or on the few records of a new device in one of several ways."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tailorbird.tune.cost.corpus import Corpus, Task
from tailorbird.tune.cost.network import USUAL, Batch, CostNetwork, NetworkShape, rank_loss

#: From a parameter and its gradient: where the step may change it, and where only weight decay does.
Mask = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How to train. tasks: per step; epochs: passes over all tasks."""

    epochs: int = 30
    rate: float = 1e-3
    tasks: int = 4
    weight_decay: float = 0.0


PLAIN = Schedule()


def pretrain(corpus: Corpus, shape: NetworkShape = USUAL, schedule: Schedule = PLAIN, seed: int = 0) -> CostNetwork:
    """A network trained on all tasks of a corpus. Raises CostModelError when there is nothing to learn from."""
    corpus.require_useful()
    network = CostNetwork(shape, seed)
    network.normalise_by(corpus.tasks)
    train(network, corpus.tasks, schedule, seed)
    return network


def train(
    network: CostNetwork,
    tasks: Sequence[Task],
    schedule: Schedule,
    seed: int,
    *,
    masked: Mask | None = None,
) -> None:
    """Train in place with Adam. masked is asked at each step anew. Tasks without an order to learn are passed over."""
    useful = [task for task in tasks if len(set(task.labels.tolist())) > 1]
    if not useful:
        return
    rng = random.Random(seed)  # noqa: S311  (an order of batches, not a secret)
    optimiser = torch.optim.Adam(network.parameters(), lr=schedule.rate)
    decay = 1.0 - schedule.rate * schedule.weight_decay
    network.train()
    whole = Batch.of(useful) if len(useful) <= schedule.tasks else None
    for _ in range(schedule.epochs):
        order = rng.sample(useful, len(useful))
        for start in range(0, len(order), schedule.tasks):
            batch = whole or Batch.of(order[start : start + schedule.tasks])
            loss = rank_loss(network(batch), batch)
            optimiser.zero_grad()
            loss.backward()
            _step(network, optimiser, decay, masked)


def _step(
    network: CostNetwork,
    optimiser: torch.optim.Optimizer,
    decay: float,
    masked: Mask | None,
) -> None:
    if masked is None:
        if decay != 1.0:
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.mul_(decay)
        optimiser.step()
        return
    kept = [
        (parameter, parameter.detach().clone(), masked(parameter.detach(), parameter.grad))
        for parameter in network.parameters()
        if parameter.grad is not None
    ]
    optimiser.step()
    with torch.no_grad():
        for parameter, before, mask in kept:
            parameter.copy_(torch.where(mask, parameter, before * decay))
