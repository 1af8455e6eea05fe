"""From a trained SuperNet and a device to a ladder: profile, predict, search, and evaluate what was found.

search.json     the front, the predictions and how far off they are, what was measured
ladder.json     the rungs
network files   the network with the rungs' recalibrated statistics
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tailorbird.cache import StageResult
from tailorbird.device import Device
from tailorbird.document import dump_document
from tailorbird.flow.artifact import read_document
from tailorbird.flow.data import Splits
from tailorbird.flow.hunt import Hunt
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.latency import profile_latency
from tailorbird.flow.network import Network
from tailorbird.flow.proxy import Transferred, hunt_by_proxy
from tailorbird.flow.subnets import SubnetTimer, require_runtime, runtime_of
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.profile import ProfileCost
from tailorbird.search import Point, pareto_front
from tailorbird.supernet import SuperNet
from tailorbird.types import Config, DeviceCard, Ladder, Rung
from tailorbird.ui.run import FrontPoint, PredictionPoint

LADDER_SCHEMA = "tailorbird.ladder/1"
SEARCH_SCHEMA = "tailorbird.search/1"
_STAGE = "search"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How hard to look. rungs: at most, least: at least, in the ladder; samples: whole subnets measured to calibrate;
    held_out: further ones to judge the predictor; kernels: the most to measure; shortlist: subnets of the predicted
    front that are recalibrated and evaluated; most_loss: rungs that lose more accuracy than this are no use. With a
    proxy: proxy_subnets: measured there; serves: rank correlation from which its Pareto set is used as it is.
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
    proxy_subnets: int = 60
    serves: float = 0.9


@dataclass(frozen=True, slots=True)
class LadderDocument:
    """ladder.json."""

    ladder: Ladder
    schema: str = LADDER_SCHEMA


@dataclass(frozen=True, slots=True)
class SearchDocument:
    """search.json. Errors are fractions: latency_error on held-out subnets, accuracy_error of left-out anchors.

    kernels_*, profiling: of the device, or of the proxy that was searched on; transferred: how that proxy served, if
    there was one.
    """

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
    transferred: Transferred | None = None
    profiling: ProfileCost | None = None
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
    proxy: Device | None = None,
    regret: bool = False,
    note: Note = silent,
) -> SearchOutcome:
    """Find 4 to 6 rungs for a device, measured there and, recalibrated, on the validation split.

    proxy: search on this device, and measure the other one as little as its order of subnets allows; regret: search on
    the device itself, too, and say what the proxy's way lost.

    Raises:
        UsageError: the proxy is the device itself.
        InputShapeError: the data does not fit the network.
        GateError: too few rungs lie far enough apart.
        DeviceError: the agent went away or refused to measure.
    """
    options = options or SearchOptions()
    splits = splits.fitted(network.document.inputs)
    for each in [device] if proxy is None else [proxy, device] if regret else [proxy]:
        require_runtime(each)
    runtime_of(device)
    inputs = {
        "network": network.result.key,
        "data": splits.sha256(),
        "device": card_identity(device.card),
        "options": {name: getattr(options, name) for name in SearchOptions.__dataclass_fields__},
        "slo_us": slo_us,
        "seed": workspace.settings.seed,
        "context": device.context,
        "proxy": None if proxy is None else {**card_identity(proxy.card), "context": proxy.context, "regret": regret},
    }

    def build(folder: Path) -> None:
        hunt = Hunt(workspace, network, splits, options, note)
        if proxy is None:
            document, ladder = _search(hunt, device, slo_us)
        else:
            document, ladder = _search_by_proxy(hunt, device, proxy, slo_us, regret=regret)
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


def _search(hunt: Hunt, device: Device, slo_us: float | None) -> tuple[SearchDocument, Ladder]:
    net, options = hunt.net, hunt.options
    started = time.monotonic()
    timer = SubnetTimer(hunt.workspace.store, net, hunt.network.example, latency_identity(net), note=hunt.note)
    profile = profile_latency(
        timer.store,
        net,
        timer.example,
        device,
        identity=timer.identity,
        kernels=options.kernels,
        samples=options.samples,
        held_out=options.held_out,
        seed=hunt.seed,
        note=hunt.note,
    )
    model = profile.model
    profiled = time.monotonic()
    judge = hunt.judge
    judged = time.monotonic()
    points = hunt.evolve(model.predict_us)
    chosen = hunt.choose(hunt.confirm(hunt.shortlist(points)))
    predicted = {point.config: point.time_us for point in chosen}
    measured = timer.times_us(device, predicted)
    rungs = pareto_front(replace(p, time_us=measured[p.config]) for p in chosen if p.config in measured)
    searched = time.monotonic()
    ladder = _ladder(hunt, device, rungs, predicted, slo_us)
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
        profiling=profile.cost,
    )
    return document, ladder


def _search_by_proxy(
    hunt: Hunt, device: Device, proxy: Device, slo_us: float | None, *, regret: bool
) -> tuple[SearchDocument, Ladder]:
    found = hunt_by_proxy(hunt, device, proxy, slo_us=slo_us, regret=regret)
    error = found.error
    document = SearchDocument(
        device=device.name,
        kernels_measured=found.profile.kernels_measured,
        kernels_reachable=found.profile.kernels_reachable,
        kernels_failed=found.profile.kernels_failed,
        latency_error=error.mape / 100 if error else None,
        latency_rank=error.spearman if error else None,
        accuracy_error=hunt.judge.error,
        evaluated=len(found.points),
        front=_front(found.points),
        predictions=found.predictions,
        profile_s=found.profile_s,
        accuracy_s=found.accuracy_s,
        search_s=found.search_s,
        transferred=found.transferred,
        profiling=found.profile.cost,
    )
    return document, _ladder(hunt, device, found.chosen, found.predicted_us, slo_us)


def _ladder(
    hunt: Hunt, device: Device, measured: Sequence[Point], predicted_us: Mapping[Config, float], slo_us: float | None
) -> Ladder:
    rungs = tuple(
        Rung(
            f"r{number}",
            point.config,
            point.accuracy,
            predicted_us[point.config],
            point.time_us,
            hunt.net.macs(point.config),
            hunt.net.params(point.config),
        )
        for number, point in enumerate(measured)
    )
    return Ladder(hunt.network.name, device.name, rungs, slo_us)


def _front(points: tuple[Point, ...]) -> tuple[FrontPoint, ...]:
    """Every point looked at, by predicted accuracy and time, marked where it is on the front."""
    on_front = set(pareto_front(points))
    return tuple(FrontPoint(p.time_us, p.accuracy, p in on_front) for p in points)
