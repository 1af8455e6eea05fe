"""Prediction: every predictor on one trained network and one fold of validation images, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tailorbird as tb
from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import AccuracyTable
from tailorbird.supernet.accuracy import baselines as others
from tailorbird.supernet.accuracy.baselines import AccuracyPredictor
from tailorbird.supernet.accuracy.evaluation import Evaluation, Evaluations, evaluate
from tailorbird.types import Config
from tests.bench.accuracy.settings import Case
from tests.bench.accuracy.subnets import drawn

#: Evaluated subnets through which scores of those predictors that only rank become accuracies.
ANCHORS = 10
_ZICO_BATCH = 128
_PROBED = 1000  # images without labels

Found = dict[str, Any]
Make = Callable[..., AccuracyPredictor]


def settings(case: Case, predictor: str, seed: int) -> dict[str, Any]:
    """What decides about predictions."""
    return case.trained | {
        "predictor": predictor,
        "seed": seed,
        "evaluations": case.network.evaluations,
        "subnets": case.settings.subnets,
    }


def predict(case: Case, net: SuperNet, predictor: str, seed: int) -> None:
    """Let a predictor judge all random subnets, once and for all."""
    case.work.once("predict", settings(case, predictor, seed), lambda: PREDICTORS[predictor](case, net, seed))


def known(case: Case, predictor: str, seed: int) -> Found | None:
    """What a predictor said of the random subnets, in their order, and what it took; None when it was not asked.

    seconds: on the CPU clock, evaluations that it shares with other predictors included.
    """
    record = case.work.record("predict", settings(case, predictor, seed))
    return None if record is None else record.found | {"seconds": record.own_seconds + record.found["shared_seconds"]}


def table(case: Case, net: SuperNet, seed: int) -> AccuracyTable:
    """The table that `predict` made."""
    predict(case, net, "table", seed)
    text = case.work.path("predict", settings(case, "table", seed), ".table.json").read_text()
    return AccuracyTable.from_json(text, net.space)


def _table(case: Case, net: SuperNet, seed: int) -> Found:
    made = _made(case, net, seed)
    case.work.path("predict", settings(case, "table", seed), ".table.json").write_text(made.to_json())
    return _told(case, net, made)


def _probed(case: Case, net: SuperNet, seed: int) -> Found:
    """As many runs, but every dimension's smallest choice is probed."""
    dimensions = len(net.space.dimensions)
    return _told(case, net, _made(case, net, seed, min(2 * dimensions, case.network.evaluations - 1 - dimensions)))


def _made(case: Case, net: SuperNet, seed: int, anchors: int | None = None) -> AccuracyTable:
    images, recalibration = case.images, case.settings.recalibration
    return tb.accuracy_table(
        net,
        images.held_batches(images.validation(seed)),
        recalibration=images.recalibration(recalibration),
        max_evaluations=case.network.evaluations,
        anchors=anchors,
        probe_images=min(_PROBED, images.fold),
        evaluation_images=images.fold,
        recalibration_images=recalibration,
        seed=seed,
    )


def _told(case: Case, net: SuperNet, made: AccuracyTable) -> Found:
    said = [made.predict(config) for config in _configs(case, net)]
    return {
        "predictions": said,
        "scores": said,
        "calibrated": True,
        "evaluations": made.provenance.probes + made.provenance.evaluations,
        "shared_seconds": 0.0,
        "looked_at": [anchor.config.key for anchor in made.anchors],
    }


def _other(make: Make, *needs: Callable[[Case, SuperNet, int], Evaluations]) -> Callable[[Case, SuperNet, int], Found]:
    """needs: evaluated subnets that are handed to `make` in this order."""

    def run(case: Case, net: SuperNet, seed: int) -> Found:
        shared = [need(case, net, seed) for need in needs]
        predictor = make(case, net, seed, *shared)
        configs = _configs(case, net)
        return {
            "predictions": [predictor.predict(config) for config in configs],
            "scores": [predictor.score(config) for config in configs],
            "calibrated": predictor.calibrated,
            "evaluations": predictor.evaluations,
            "shared_seconds": sum(evaluated.seconds for evaluated in shared),
        }

    return run


def _configs(case: Case, net: SuperNet) -> tuple[Config, ...]:
    found = drawn(case, net)
    assert found is not None
    return found.configs


def _zico(case: Case, net: SuperNet, seed: int, anchors: Evaluations) -> AccuracyPredictor:
    return others.zico(net, case.images.held_batches(case.images.validation(seed), _ZICO_BATCH), anchors)


def _naswot(case: Case, net: SuperNet, seed: int, anchors: Evaluations) -> AccuracyPredictor:
    return others.naswot(net, case.images.held_batches(case.images.validation(seed)), anchors)


def _singles(case: Case, net: SuperNet, seed: int) -> Evaluations:
    return _evaluated(case, net, seed, "singles", others.single_changes(net.space))


def _samples(case: Case, net: SuperNet, seed: int) -> Evaluations:
    """Random subnets, none of them on purpose one that predictors are judged on."""
    return _evaluated(case, net, seed, "random", others.random_subnets(net.space, case.network.evaluations, 1 + seed))


def _anchors(case: Case, net: SuperNet, seed: int) -> Evaluations:
    """Subnets evenly over MACs, for those that only rank."""
    return _evaluated(case, net, seed, "anchors", others.spread_subnets(net, ANCHORS, seed))


def _evaluated(case: Case, net: SuperNet, seed: int, which: str, configs: list[Config]) -> Evaluations:
    """Subnets evaluated on a fold of validation images, once for all predictors; seconds: on the CPU clock."""
    images, recalibration = case.images, case.settings.recalibration

    def make() -> Found:
        found = evaluate(
            net,
            configs,
            images.held_batches(images.validation(seed)),
            images.recalibration(recalibration),
            recalibration_images=recalibration,
        )
        return {"accuracies": [[known.config.to_json(), known.accuracy] for known in found.found]}

    record = case.work.once("samples", case.trained | {"seed": seed, "which": which, "count": len(configs)}, make)
    found = [Evaluation(Config.from_json(text), accuracy) for text, accuracy in record.found["accuracies"]]
    return Evaluations(tuple(found), record.cpu_seconds)


#: Ours first. The others as published; those that only rank, and additive-curve, with a curve through a few anchors.
PREDICTORS: dict[str, Callable[[Case, SuperNet, int], Found]] = {
    "table": _table,
    "table-probed": _probed,
    "additive": _other(lambda _c, net, _s, singles: others.additive(net, (), singles=singles), _singles),
    "additive-curve": _other(
        lambda _c, net, _s, singles, some: others.additive(net, (), singles=singles, anchors=some), _singles, _anchors
    ),
    "additive-max": _other(
        lambda _c, net, _s, singles: others.additive(net, (), combine="max", singles=singles), _singles
    ),
    "mlp": _other(lambda _c, net, seed, samples: others.mlp(net, samples, seed=seed), _samples),
    "macs": _other(lambda _c, net, _s, some: others.macs(net, some), _anchors),
    "params": _other(lambda _c, net, _s, some: others.params(net, some), _anchors),
    "synflow": _other(lambda _c, net, _s, some: others.synflow(net, some), _anchors),
    "zico": _other(_zico, _anchors),
    "naswot": _other(_naswot, _anchors),
}
