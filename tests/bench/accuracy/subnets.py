"""The random subnets that predictors are judged on."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tailorbird.supernet import SearchSpace, SuperNet
from tailorbird.types import Config
from tests.bench.accuracy.settings import Case

_SEED = 8_128  # of the first subnet; no other part of the benchmark draws from it


def draw(space: SearchSpace, count: int) -> list[Config]:
    """So many distinct subnets, none of them the full network; the first of a longer list are those of a shorter one.

    Each draws a share uniformly from 0 to 1. A sized dimension changes with this probability, to one of its smaller
    choices with equal chances; a block is skipped with half of it.
    """
    found: dict[Config, None] = {}
    seed = _SEED
    while len(found) < count:
        config = _drawn(space, random.Random(seed))
        seed += 1
        if not config.is_full:
            found[config] = None
        if seed > _SEED + 100 * count:
            raise ValueError(f"{space!r} does not hold {count} subnets")
    return list(found)


def _drawn(space: SearchSpace, rng: random.Random) -> Config:
    share = rng.random()
    sizes, skipped = {}, []
    for dimension in space.dimensions:
        if dimension.kind == "depth":
            if rng.random() < share / 2:
                skipped.append(dimension.name)
        elif len(dimension.choices) > 1 and rng.random() < share:
            sizes[dimension.name] = rng.choice(dimension.choices[:-1])
    return space.canonical(Config.of(sizes, skipped))


@dataclass(frozen=True, slots=True)
class Drawn:
    """The random subnets of a case, and what they compute: multiply-accumulates of one image, parameters."""

    configs: tuple[Config, ...]
    macs: tuple[int, ...]
    params: tuple[int, ...]
    full_macs: int
    full_params: int


def drawn(case: Case, net: SuperNet | None) -> Drawn | None:
    """Draw them once and for all; None when net is None and they never were."""
    settings = {"net": case.network.name, "count": case.settings.subnets}

    def make() -> dict[str, Any]:
        configs = draw(net.space, case.settings.subnets)
        return {
            "configs": [config.to_json() for config in configs],
            "macs": [net.macs(config) for config in configs],
            "params": [net.params(config) for config in configs],
            "full_macs": net.macs(),
            "full_params": net.params(),
        }

    known = case.work.record("subnets", settings) if net is None else case.work.once("subnets", settings, make)
    if known is None:
        return None
    found = known.found
    configs = tuple(Config.from_json(text) for text in found["configs"])
    return Drawn(configs, tuple(found["macs"]), tuple(found["params"]), found["full_macs"], found["full_params"])
