"""MLP: an accuracy predictor that is learnt from evaluated subnets, as in Once-for-All.

Cai et al., "Once-for-All: Train one network and specialize it for efficient deployment", ICLR 2020, appendix A: three
layers of 400 hidden units on the one-hot encoding of a configuration, in which what lies inside a skipped block is all
zeros. As in the authors' code, ReLU between layers and an output that is added to the mean accuracy of the samples.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.evaluation import Evaluations
from tailorbird.supernet.space import SearchSpace
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_HIDDEN = 400
_LAYERS = 3
_DECAYS = (1e-4, 1e-3, 1e-2)
_FOLDS = 3
_TRIES = 50  # draws for each subnet wanted, before a small space counts as exhausted


def mlp(
    net: SuperNet,
    samples: Evaluations,
    *,
    seed: int = 0,
    steps: int = 500,
    lr: float = 1e-3,
    weight_decay: float | None = None,
) -> Scored:
    """Fitted on evaluated subnets (`evaluate(net, random_subnets(net.space, count, seed), ...)`).

    The publication, which has 16,000 samples, does not say how it fits. Here it is Adam on the mean squared error over
    all samples at once, the learning rate falling along a half cosine; the same for the same seed. weight_decay: by
    default that one of a few which predicts held-out thirds of the samples best, since with few samples much depends
    on it. Raises: UsageError for fewer than two samples.
    """
    if len(samples) < 2:
        raise UsageError(
            f"{len(samples)} evaluated subnets are too few to learn from", fix="evaluate two subnets at least"
        )
    begin = time.monotonic()
    encoding = Encoding(net.space)
    features = torch.stack([encoding(known.config) for known in samples.found])
    wanted = torch.tensor([known.accuracy for known in samples.found])
    fit = functools.partial(_fitted, seed=seed, steps=steps, lr=lr)
    decay = weight_decay if weight_decay is not None else _best_decay(features, wanted, fit)
    model = fit(features, wanted, decay)

    def predicted(config: Config) -> float:
        return float(model(encoding(config)[None]))

    spent = samples.seconds + time.monotonic() - begin
    return Scored("mlp", net.space, predicted, calibrated=True, evaluations=len(samples), seconds=spent)


def random_subnets(space: SearchSpace, count: int, seed: int) -> list[Config]:
    """Distinct random subnets, as many as the space has at most."""
    rng = random.Random(seed)  # noqa: S311  (no secret depends on it)
    found: dict[Config, None] = {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        found[space.sample(rng.getrandbits(32))] = None
    return list(found)


class Encoding:
    """One-hot encoding of canonical configurations: a place for each choice of each dimension, (places,).

    A dimension without effect, because it lies inside a skipped block, is all zeros.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        places = [(d.name, choice) for d in space.dimensions for choice in d.choices]
        self._place = {key: index for index, key in enumerate(places)}

    def __call__(self, config: Config) -> Tensor:
        dims, blocks = self._space.dead(config)
        sizes = dict(config.sizes)
        code = torch.zeros(len(self._place))
        for dimension in self._space.dimensions:
            if dimension.name in dims or dimension.name in blocks:
                continue
            choice = int(dimension.name not in config.skipped) if dimension.kind == "depth" else dimension.size
            code[self._place[dimension.name, sizes.get(dimension.name, choice)]] = 1
        return code


def _fitted(
    features: Tensor, wanted: Tensor, decay: float, *, seed: int, steps: int, lr: float
) -> Callable[[Tensor], Tensor]:
    mean = wanted.mean()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [features.shape[1], *[_HIDDEN] * _LAYERS]
        layers = [layer for at in range(_LAYERS) for layer in (nn.Linear(widths[at], widths[at + 1]), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(_HIDDEN, 1, bias=False), nn.Flatten(0))
    optimiser = torch.optim.Adam(model.parameters(), lr, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        functional.mse_loss(model(features), wanted - mean).backward()
        optimiser.step()
        schedule.step()
    model.requires_grad_(requires_grad=False)
    return lambda x: model(x) + mean


def _best_decay(features: Tensor, wanted: Tensor, fit: Callable[..., Callable[[Tensor], Tensor]]) -> float:
    """The weight decay with the least squared error over held-out parts; the samples come in random order already."""
    parts = torch.arange(len(wanted)) % min(_FOLDS, len(wanted))
    errors = dict.fromkeys(_DECAYS, 0.0)
    for part in parts.unique():
        kept, held = parts != part, parts == part
        for decay in _DECAYS:
            guess = fit(features[kept], wanted[kept], decay)(features[held])
            errors[decay] += float((guess - wanted[held]).square().sum())
    return min(errors, key=lambda decay: errors[decay])
