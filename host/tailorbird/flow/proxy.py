"""OneProxy: search once on a proxy device, and measure the target no more than its order of subnets demands.

Where the target orders subnets as the proxy does (rank correlation of at least 0.9 on subnets measured on both), the
proxy's Pareto set is the target's, and only its times are measured anew. Where it does not, the latency predictor is
carried over to the target with a few samples and the search is repeated with it. (arXiv 2111.01203; the predictor is
the hierarchical Gaussian process of tailorbird.predict instead of AdaProxy.) Either way every candidate of the ladder
is measured on the target before rungs are chosen.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tailorbird.device import Device
from tailorbird.errors import DeviceError
from tailorbird.flow.hunt import Hunt
from tailorbird.flow.identity import latency_identity
from tailorbird.flow.latency import LatencyProfile, profile_latency
from tailorbird.flow.subnets import SubnetTimer
from tailorbird.flow.transfer import Transfer, transfer_latency
from tailorbird.predict import PredictionError, Sample
from tailorbird.predict.fewshot import TransferredLatency
from tailorbird.predict.monotonicity import MIN_COMMON
from tailorbird.search import Point, pareto_front
from tailorbird.search.regret import pareto_regret
from tailorbird.types import Config
from tailorbird.ui.run import PredictionPoint


@dataclass(frozen=True, slots=True)
class OwnSearch:
    """A search on the target itself, and what the proxy's way lost against it; accuracies are fractions.

    mean_regret: over all deadlines, on a logarithmic scale; worst_regret: at the least favourable one; fastest: how
    many times as long the fastest subnet takes; kernels, subnets: measured on the target for it; seconds: in all.
    """

    mean_regret: float
    worst_regret: float
    fastest: float
    kernels: int
    subnets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PredictedRegret:
    """What the proxy's Pareto set loses on the target by what the target's own predictor says, as OwnSearch has it.

    error: of that predictor, percent on its own samples, each left out in turn; None when there are too few.
    """

    mean_regret: float
    worst_regret: float
    fastest: float
    error: float | None


@dataclass(frozen=True, slots=True)
class Transferred:
    """How a proxy served a target. srcc is None when it is not known, and `unknown` says why.

    reused: whether the proxy's Pareto set was taken as it is; samples: subnets of the target the decision and the model
    stand on; measured: subnets measured on the target in all, seconds of that; drift: how the target changed since its
    earlier measurements, "" where there were none; predicted: regret of the proxy's set, without measuring anything;
    own: the same measured, of the set that was used.
    """

    proxy: str
    srcc: float | None
    low: float | None
    high: float | None
    common: int
    unknown: str
    threshold: float
    reused: bool
    samples: int
    measured: int
    seconds: float
    drift: str
    predicted: PredictedRegret
    own: OwnSearch | None


@dataclass(frozen=True, slots=True, eq=False)
class ProxyHunt:
    """Everything a search by proxy found. points: predicted; chosen: with measured times and accuracies."""

    profile: LatencyProfile
    points: tuple[Point, ...]
    chosen: tuple[Point, ...]
    predicted_us: Mapping[Config, float]
    predictions: tuple[PredictionPoint, ...]
    error: PredictionError | None
    transferred: Transferred
    profile_s: float
    accuracy_s: float
    search_s: float


def hunt_by_proxy(hunt: Hunt, device: Device, proxy: Device, *, slo_us: float | None, regret: bool) -> ProxyHunt:
    """Search on the proxy, decide, and measure what is left to measure on the target.

    Raises:
        UsageError: the proxy is the target.
        GateError: too few rungs lie far enough apart.
        DeviceError, DeviceUnreachableError: one of both refused or went away; what was measured is kept.
    """
    timer = SubnetTimer(
        hunt.workspace.store, hunt.net, hunt.network.example, latency_identity(hunt.net), note=hunt.note
    )
    started = time.monotonic()
    profile = _profile(hunt, proxy)
    proxied = time.monotonic()
    transfer = transfer_latency(
        timer,
        profile.kernels_of,
        device,
        [proxy],
        tables={proxy.name: profile.model.table},
        least=MIN_COMMON,
        proxy_subnets=hunt.options.proxy_subnets,
        seed=hunt.seed,
    )
    profiled = time.monotonic()
    full_accuracy = hunt.judge.full_accuracy
    hunt.note(f"full network {full_accuracy:.1%}")
    judged = time.monotonic()
    (agreed,) = transfer.agreements
    reused = agreed.srcc is not None and agreed.srcc >= hunt.options.serves
    model = transfer.model
    points = theirs = hunt.evolve(profile.model.predict_us)
    if reused:
        ours = hunt.evolve(model.predict_us)
    else:
        model, ours = _search_again(hunt, timer, device, model, slo_us)
        points = ours
    lost = _predicted_regret(model, theirs, ours)
    listed = hunt.shortlist(points)
    predicted = {point.config: model.predict_us(point.config) for point in points}
    measuring = time.monotonic()
    candidates = _measured(timer, device, listed)
    seconds = profiled - proxied + time.monotonic() - measuring
    evaluated = hunt.confirm(candidates)
    chosen = hunt.choose(evaluated)
    searched = time.monotonic()
    predictions = _predictions(model, candidates)
    held_out = [point for point in predictions if point.held_out]
    transferred = Transferred(
        proxy=proxy.name,
        srcc=agreed.srcc,
        low=agreed.low,
        high=agreed.high,
        common=agreed.common,
        unknown=agreed.unknown,
        threshold=hunt.options.serves,
        reused=reused,
        samples=len(transfer.model.samples),
        measured=_count(transfer, model, candidates),
        seconds=seconds,
        drift="" if transfer.drift is None else transfer.drift.reason,
        predicted=lost,
        own=_own_search(hunt, timer, device, evaluated, profile) if regret else None,
    )
    return ProxyHunt(
        profile=profile,
        points=tuple(replace(point, time_us=predicted[point.config]) for point in points),
        chosen=chosen,
        predicted_us=predicted,
        predictions=predictions,
        error=PredictionError.of([p.predicted_us for p in held_out], [p.measured_us for p in held_out])
        if held_out
        else model.error,
        transferred=transferred,
        profile_s=profiled - started,
        accuracy_s=judged - profiled,
        search_s=searched - judged,
    )


def _profile(hunt: Hunt, device: Device, known: LatencyProfile | None = None) -> LatencyProfile:
    options = hunt.options
    return profile_latency(
        hunt.workspace.store,
        hunt.net,
        hunt.network.example,
        device,
        identity=latency_identity(hunt.net),
        kernels=options.kernels,
        samples=options.samples,
        held_out=options.held_out,
        seed=hunt.seed,
        kernels_of=None if known is None else known.kernels_of,
        note=hunt.note,
    )


def _search_again(
    hunt: Hunt, timer: SubnetTimer, device: Device, model: TransferredLatency, slo_us: float | None
) -> tuple[TransferredLatency, tuple[Point, ...]]:
    """Search with the carried-over predictor; measure what it doubts of its own front, and search once more."""
    points = hunt.evolve(model.predict_us)
    doubted = [point.config for point in hunt.shortlist(points) if model.doubt(point.config, slo_us)]
    if not doubted:
        return model, points
    found = timer.times_us(device, doubted)
    model = model.with_samples(Sample(config, us) for config, us in found.items())
    return model, hunt.evolve(model.predict_us)


def _measured(timer: SubnetTimer, device: Device, points: Sequence[Point]) -> list[Point]:
    """Points with the time they take on the device; those that do not run there are gone."""
    times = timer.times_us(device, [point.config for point in points])
    if not times:
        raise DeviceError(
            f"none of {len(points)} candidates runs on {device.name}", fix="see what fails: tailorbird doctor"
        )
    return [replace(point, time_us=times[point.config]) for point in points if point.config in times]


def _predictions(model: TransferredLatency, candidates: Sequence[Point]) -> tuple[PredictionPoint, ...]:
    """Samples of the model, and candidates that were measured after it had predicted them."""
    fitted = {sample.config: sample.cpu_us for sample in model.samples}
    own = [PredictionPoint(config.key, us, us, held_out=False) for config, us in fitted.items()]
    later = [
        PredictionPoint(p.config.key, model.predict_us(p.config), p.time_us, held_out=True)
        for p in candidates
        if p.config not in fitted
    ]
    return (*own, *later)


def _count(transfer: Transfer, model: TransferredLatency, candidates: Sequence[Point]) -> int:
    """Distinct subnets measured on the target in this search."""
    before = {sample.config for sample in transfer.model.samples}
    later = {sample.config for sample in model.samples} | {point.config for point in candidates}
    return transfer.measured + len(later - before)


def _predicted_regret(model: TransferredLatency, theirs: Sequence[Point], ours: Sequence[Point]) -> PredictedRegret:
    """Of the proxy's Pareto set against a search with the target's own predictor, all times by that predictor."""
    there = [replace(point, time_us=model.predict_us(point.config)) for point in pareto_front(theirs)]
    found = pareto_regret(there, ours)
    error = None if model.error is None else model.error.mape
    return PredictedRegret(found.mean, found.worst, found.fastest, error)


def _own_search(
    hunt: Hunt, timer: SubnetTimer, device: Device, evaluated: Sequence[Point], known: LatencyProfile
) -> OwnSearch:
    """Search on the target itself as if there were no proxy, and compare what was measured."""
    started = time.monotonic()
    profile = _profile(hunt, device, known)
    own = hunt.confirm(_measured(timer, device, hunt.shortlist(hunt.evolve(profile.model.predict_us))))
    found = pareto_regret(evaluated, own)
    subnets = {sample.config for sample in (*profile.calibration, *profile.held_out)} | {p.config for p in own}
    return OwnSearch(
        found.mean, found.worst, found.fastest, profile.kernels_measured, len(subnets), time.monotonic() - started
    )
