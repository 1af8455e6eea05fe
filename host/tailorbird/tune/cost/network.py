"""The network that orders schedules: an encoder for each store, summed over a schedule's stores, then a score.

The form is TenSet's MLP (Zheng et al., NeurIPS Datasets 2021), which Moses uses with two layers of 512; ours may be
told of the device after the sum. Trained by order within a kernel, never across kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tailorbird.tune.cost.corpus import Task
from tailorbird.tune.cost.device import DEVICE_FIELDS, device_vector
from tailorbird.tune.cost.features import WIDTH, Floats


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """width: of both hidden layers; device: whether the device's vector is an input."""

    width: int = 512
    device: bool = True


USUAL = NetworkShape()


class CostNetwork(nn.Module):
    """Scores of schedules, higher is faster. Only scores of one kernel compare.

    The features are brought to zero mean and unit deviation by figures that are set once (`normalise_by`) and saved
    with the weights: what a feature means must not depend on the batch it arrives in.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: NetworkShape = USUAL, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encode = nn.Sequential(
                nn.Linear(WIDTH, shape.width), nn.ReLU(), nn.Linear(shape.width, shape.width), nn.ReLU()
            )
            self.device = nn.Linear(len(DEVICE_FIELDS), shape.width, bias=False) if shape.device else None
            self.score = nn.Sequential(nn.Linear(shape.width, shape.width), nn.ReLU(), nn.Linear(shape.width, 1))
        if self.device is not None:
            nn.init.zeros_(self.device.weight)  # a device says nothing until its records do
        self.register_buffer("mean", torch.full((WIDTH,), 3.0))
        self.register_buffer("deviation", torch.full((WIDTH,), 6.0))

    def normalise_by(self, tasks: Iterable[Task]) -> None:
        """Set the features' mean and deviation. A feature that is constant there is left out from then on."""
        rows = np.concatenate([each for task in tasks for each in task.features]).astype(np.float64)
        deviation = rows.std(0)
        constant = deviation < 1e-6
        self.mean.copy_(torch.from_numpy(rows.mean(0)))
        self.deviation.copy_(torch.from_numpy(np.where(constant, np.inf, deviation)))

    def forward(self, batch: Batch) -> Tensor:
        """(schedules,) scores."""
        rows = ((batch.rows - self.mean) / self.deviation).clamp(-5.0, 5.0)
        encoded = self.encode(rows)
        summed = encoded.new_zeros(batch.count, encoded.shape[1]).index_add(0, batch.owners, encoded)
        if self.device is not None:
            summed = summed + self.device(batch.devices)
        return self.score(summed).squeeze(1)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Schedules of one or more tasks as the network takes them.

    rows: (stores, 164); owners: (stores,) schedule of each row; devices: (schedules, fields); groups: (schedules,) task
    of each; labels: (schedules,).
    """

    rows: Tensor
    owners: Tensor
    devices: Tensor
    groups: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """Schedules."""
        return len(self.labels)

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> Batch:
        """All schedules of some tasks."""
        features = [each for task in tasks for each in task.features]
        sizes = [len(task.features) for task in tasks]
        vectors = np.stack([device_vector(task.boards) for task in tasks])
        return cls(
            torch.from_numpy(np.concatenate(features or [np.zeros((0, WIDTH), np.float32)])),
            torch.from_numpy(np.repeat(np.arange(len(features)), [len(each) for each in features])),
            torch.from_numpy(np.repeat(vectors, sizes, 0)),
            torch.from_numpy(np.repeat(np.arange(len(tasks)), sizes)),
            torch.from_numpy(np.concatenate([task.labels for task in tasks])),
        )


def rank_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Pairs of one task in the wrong order, weighted by how much it matters: mean of |dy| log(1 + exp(-(si - sj))).

    RankNet (Burges et al., ICML 2005) with the gain of LambdaRank for speed. 0 when no task has two different labels.
    """
    gain = batch.labels[:, None] - batch.labels[None, :]
    pairs = (batch.groups[:, None] == batch.groups[None, :]) & (gain > 0)
    if not bool(pairs.any()):
        return scores.sum() * 0.0
    margin = scores[:, None] - scores[None, :]
    weights = gain[pairs]
    return (nn.functional.softplus(-margin[pairs]) * weights).sum() / weights.sum()


def scores_of(network: CostNetwork, task: Task) -> Floats:
    """(schedules,) float32 scores of a task's schedules; its times are not looked at."""
    network.eval()
    with torch.no_grad():
        return network(Batch.of([task])).numpy()
