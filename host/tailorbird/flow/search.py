"""From a trained SuperNet and a device to a ladder: profile, predict, search, and evaluate what was found.

search.json     the front, the predictions and how far off they are, what was measured
ladder.json     the rungs
network files   the network with the rungs' recalibrated statistics
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tailorbird.cache import StageResult
from tailorbird.device import Device
from tailorbird.document import dump_document
from tailorbird.flow.artifact import read_document
from tailorbird.flow.data import Batches, Splits
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.latency import profile_latency, require_runtime
from tailorbird.flow.network import Network
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.search import Point, choose_rungs, evolve, pareto_front
from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import accuracy_table
from tailorbird.types import DeviceCard, Ladder, Rung
from tailorbird.ui.run import FrontPoint, PredictionPoint

LADDER_SCHEMA = "tailorbird.ladder/1"
SEARCH_SCHEMA = "tailorbird.search/1"
_STAGE = "search"
_RECALIBRATION_IMAGES = 512


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How hard to look. rungs: at most, least: at least, in the ladder; samples: whole subnets measured to calibrate;
    held_out: further ones to judge the predictor; kernels: the most to measure; shortlist: subnets of the predicted
    front that are recalibrated and evaluated; most_loss: rungs that lose more accuracy than this are no use.
    """

    rungs: int = 6
    least: int = 4
    kernels: int = 64
    samples: int = 6
    held_out: int = 6
    population: int = 32
    generations: int = 24
    shortlist: int = 14
    most_loss: float = 0.15
    evaluation_images: int = 400


@dataclass(frozen=True, slots=True)
class LadderDocument:
    """ladder.json."""

    ladder: Ladder
    schema: str = LADDER_SCHEMA


@dataclass(frozen=True, slots=True)
class SearchDocument:
    """search.json. Errors are fractions: latency_error on held-out subnets, accuracy_error of left-out anchors."""

    device: str
    kernels_measured: int
    kernels_reachable: int
    kernels_failed: int
    latency_error: float | None
    latency_rank: float | None
    accuracy_error: float
    evaluated: int
    front: tuple[FrontPoint, ...]
    predictions: tuple[PredictionPoint, ...]
    profile_s: float
    accuracy_s: float
    search_s: float
    schema: str = SEARCH_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class SearchOutcome:
    """The ladder, how it was found, and the network with the statistics of its rungs."""

    network: Network
    ladder: Ladder
    document: SearchDocument
    result: StageResult


def search_ladder(
    workspace: Workspace,
    network: Network,
    splits: Splits,
    device: Device,
    options: SearchOptions | None = None,
    *,
    slo_us: float | None = None,
    note: Note = silent,
) -> SearchOutcome:
    """Find 4 to 6 rungs for a device. Accuracies are measured on the validation split after recalibration.

    Raises:
        InputShapeError: the data does not fit the network.
        GateError: too few rungs lie far enough apart.
        DeviceError: the agent went away or refused to measure.
    """
    options = options or SearchOptions()
    splits = splits.fitted(network.document.inputs)
    require_runtime(device)
    inputs = {
        "network": network.result.key,
        "data": splits.sha256(),
        "device": card_identity(device.card),
        "options": {name: getattr(options, name) for name in SearchOptions.__dataclass_fields__},
        "slo_us": slo_us,
        "seed": workspace.settings.seed,
    }

    def build(folder: Path) -> None:
        document, ladder = _search(workspace, network, splits, device, options, slo_us, note)
        network.write(folder)
        (folder / "search.json").write_text(dump_document(document, indent=1), encoding="utf-8")
        (folder / "ladder.json").write_text(dump_document(LadderDocument(ladder), indent=1), encoding="utf-8")

    result = workspace.cache.run(_STAGE, inputs, build)
    if result.hit:
        net = SuperNet.load(result.folder / "supernet.pt", network.net.weights, *network.inputs)
        network = replace(network, net=net)
    return _outcome(replace(network, result=result), result)


def open_search(network: Network) -> SearchOutcome:
    """What `search` left in the folder that the network was opened from.

    Raises:
        MissingFileError: the folder is not of that stage.
    """
    return _outcome(network, network.result)


def card_identity(card: DeviceCard) -> dict[str, object]:
    """What makes measurements of one device useless for another."""
    return {
        "name": card.name,
        "cpu": card.cpu_model,
        "triple": card.triple,
        "cores": card.cores,
        "runtimes": [list(pair) for pair in card.runtimes],
    }


def _outcome(network: Network, result: StageResult) -> SearchOutcome:
    made_by = "tailorbird search"
    document = read_document(result.folder, "search.json", SearchDocument, SEARCH_SCHEMA, made_by=made_by)
    ladder = read_document(result.folder, "ladder.json", LadderDocument, LADDER_SCHEMA, made_by=made_by).ladder
    return SearchOutcome(network, ladder, document, result)


def _search(
    workspace: Workspace,
    network: Network,
    splits: Splits,
    device: Device,
    options: SearchOptions,
    slo_us: float | None,
    note: Note,
) -> tuple[SearchDocument, Ladder]:
    net, seed = network.net, workspace.settings.seed
    started = time.monotonic()
    profile = profile_latency(
        workspace.store,
        net,
        network.example,
        device,
        identity=latency_identity(net),
        kernels=options.kernels,
        samples=options.samples,
        held_out=options.held_out,
        seed=seed,
        note=note,
    )
    model = profile.model
    profiled = time.monotonic()
    validation = splits.held_out()
    recalibration = splits.calibration()
    memory = workspace.settings.cache_folder / "accuracy"
    judge = accuracy_table(
        net,
        validation,
        recalibration=recalibration,
        training=Batches(splits.train, 200),
        evaluation_images=options.evaluation_images,
        seed=seed,
        cache=memory,
        on_progress=lambda done, total: note(f"{done} of {total} accuracy probes"),
    )
    judged = time.monotonic()
    for sentence in judge.notes:
        note(sentence)
    points = evolve(
        net.space,
        judge.predict,
        model.predict_us,
        population=options.population,
        generations=options.generations,
        seed=seed,
        on_generation=lambda generation, count: note(f"generation {generation}, {count} subnets"),
    )
    # Predicted accuracies err by a few points, so the shortlist reaches below the floor.
    reach = judge.full_accuracy - 1.5 * options.most_loss
    shortlist = choose_rungs(points, rungs=options.shortlist, least=1, gap=0.05, floor=reach)
    candidates = _with_full(net, shortlist, points)
    confirmed = judge.confirm(
        net,
        [point.config for point in candidates],
        validation,
        recalibration=recalibration,
        recalibration_images=_RECALIBRATION_IMAGES,
        cache=memory,
        on_progress=lambda done, total: note(f"{done} of {total} candidates evaluated"),
    )
    evaluated = [replace(point, accuracy=c.accuracy) for point, c in zip(candidates, confirmed, strict=True)]
    floor = judge.full_accuracy - options.most_loss
    below = _below_the_full(net, evaluated, 0.5 / len(splits.validation[1]))
    chosen = choose_rungs(below, rungs=options.rungs, least=options.least, floor=floor)
    searched = time.monotonic()
    ladder = Ladder(network.name, device.name, tuple(_rung(net, i, p) for i, p in enumerate(chosen)), slo_us)
    document = SearchDocument(
        device=device.name,
        kernels_measured=profile.kernels_measured,
        kernels_reachable=profile.kernels_reachable,
        kernels_failed=profile.kernels_failed,
        latency_error=model.error.mape / 100 if model.error else None,
        latency_rank=model.error.spearman if model.error else None,
        accuracy_error=judge.error,
        evaluated=len(points),
        front=_front(points),
        predictions=tuple(
            PredictionPoint(sample.config.key, model.predict_us(sample.config), sample.cpu_us, held_out=held_out)
            for samples, held_out in ((profile.calibration, False), (profile.held_out, True))
            for sample in samples
        ),
        profile_s=profiled - started,
        accuracy_s=judged - profiled,
        search_s=searched - judged,
    )
    return document, ladder


def _with_full(net: SuperNet, shortlist: Sequence[Point], points: Sequence[Point]) -> list[Point]:
    """The shortlist and the full network, which belongs into every ladder."""
    full = next((p for p in points if p.config == net.space.full()), None)
    return [*shortlist, *([full] if full is not None and full not in shortlist else [])]


def _below_the_full(net: SuperNet, points: Sequence[Point], step: float) -> list[Point]:
    """Subnets learn from the full network, so they surpass it by chance alone: of equals the user's own model stays.

    step: half the weight of one validation image.
    """
    own = next((p for p in points if p.config == net.space.full()), None)
    if own is None:
        return list(points)
    return [p if p is own else replace(p, accuracy=min(p.accuracy, own.accuracy - step)) for p in points]


def _rung(net: SuperNet, number: int, point: Point) -> Rung:
    return Rung(
        f"r{number}",
        point.config,
        point.accuracy,
        point.time_us,
        None,
        net.macs(point.config),
        net.params(point.config),
    )


def _front(points: Sequence[Point]) -> tuple[FrontPoint, ...]:
    """Every point looked at, by predicted accuracy and time, marked where it is on the front."""
    on_front = set(pareto_front(points))
    return tuple(FrontPoint(p.time_us, p.accuracy, p in on_front) for p in points)
