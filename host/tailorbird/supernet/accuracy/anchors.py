"""Anchors: the few subnets that are really evaluated, so that scores of all others can be turned into accuracies."""

from __future__ import annotations

import random
from collections.abc import Callable

from tailorbird.supernet.space import SearchSpace
from tailorbird.types import Config

_CANDIDATES = 200  # random subnets the anchors are chosen from


def choose_anchors(space: SearchSpace, score: Callable[[Config], float], count: int, seed: int) -> list[Config]:
    """At most `count` distinct subnets: the smallest, and random ones spread evenly over the rank of their score.

    score: rises (or falls) with the damage a subnet takes, such as its predicted divergence. Candidates are thinned at
    random, so that mild subnets occur as often as drastic ones; the full network is never among them. The lowest score
    comes first, the smallest subnet last.
    """
    if count < 1:
        return []
    rng = random.Random(seed)  # noqa: S311  (no secret depends on it)
    drawn = {_thinned(space, space.sample(rng.getrandbits(32)), rng) for _ in range(_CANDIDATES)}
    smallest = space.smallest()
    ranked = sorted(drawn - {smallest, Config()}, key=lambda config: (score(config), config.key))
    wanted = min(count - 1, len(ranked))
    spread = [ranked[(2 * place + 1) * len(ranked) // (2 * wanted)] for place in range(wanted)]
    return [*spread, *([] if smallest.is_full else [smallest])]


def _thinned(space: SearchSpace, config: Config, rng: random.Random) -> Config:
    """A random share of a configuration's changes."""
    share = rng.random()
    sizes = {name: size for name, size in config.sizes if rng.random() < share}
    return space.canonical(Config.of(sizes, [name for name in config.skipped if rng.random() < share]))
