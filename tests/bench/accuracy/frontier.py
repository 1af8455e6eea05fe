"""Frontier: the best subnets that a search with the table finds, confirmed on validation images, reported on others."""

from __future__ import annotations

from typing import Any

from tailorbird.search import evolve
from tailorbird.supernet import SuperNet
from tailorbird.types import Config
from tests.bench.accuracy.evaluation import judge
from tests.bench.accuracy.prediction import table
from tests.bench.accuracy.settings import LIMITS, Case

_POPULATION = 64

Found = dict[str, Any]


def settings(case: Case, seed: int) -> dict[str, Any]:
    """What decides about the frontier."""
    limits = [[limit, count] for limit, count in LIMITS.items()]
    return case.trained | {"seed": seed, "limits": limits, "generations": case.settings.generations}


def known(case: Case, seed: int) -> Found | None:
    """What was found, if it was searched for."""
    record = case.work.record("frontier", settings(case, seed))
    return None if record is None else record.found | {"wall_seconds": record.wall_seconds}


def search(case: Case, net: SuperNet, seed: int) -> None:
    """Search once and for all: for each limit on MACs the subnet that is best on the fold's validation images."""
    case.work.once("frontier", settings(case, seed), lambda: _search(case, net, seed))


def _search(case: Case, net: SuperNet, seed: int) -> Found:
    predictor, full = table(case, net, seed), net.macs()
    points = evolve(
        net.space,
        predictor.predict,
        lambda config: float(net.macs(config)),
        population=_POPULATION,
        generations=case.settings.generations,
        seed=seed,
    )
    ranked = sorted(points, key=lambda point: (-point.accuracy, point.time_us, point.config.key))
    best, confirmed = [], set()
    for limit, count in LIMITS.items():
        top = [point.config for point in ranked if point.time_us <= limit * full][:count]
        if not top:
            continue
        confirmed |= set(top)
        scores = {config: _validated(case, net, config, seed) for config in top}
        chosen = max(top, key=lambda config: scores[config])  # of equals the one predicted to be better
        best.append(
            {
                "limit": limit,
                "macs_share": net.macs(chosen) / full,
                "params_share": net.params(chosen) / net.params(),
                "config": chosen.to_json(),
                "predicted": predictor.predict(chosen),
                "validation": scores[chosen],
                "confirmed": count,
                **measured(case, net, chosen, seed),
            }
        )
    return {"best": best, "searched": len(points), "confirmed": len(confirmed)}


def measured(case: Case, net: SuperNet, config: Config, seed: int) -> Found:
    """Accuracy of a subnet on the held-out images that neither the predictor seed nor training saw, and on all."""
    total = len(case.images.held[1])
    found = judge(case, net, config, slice(0, total))
    assert found is not None
    unseen = case.images.unseen(seed, total)
    return {
        "accuracy": float(found.right[unseen].mean()),
        "images": int(unseen.sum()),
        "accuracy_all": float(found.right.mean()),
    }


def _validated(case: Case, net: SuperNet, config: Config, seed: int) -> float:
    found = judge(case, net, config, case.images.validation(seed))
    assert found is not None
    return float(found.right.mean())
