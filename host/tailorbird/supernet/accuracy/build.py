"""Making an accuracy table: probe, choose anchors, evaluate them, draw the curve, carry over what it leaves."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.additive import SIZE, Additive
from tailorbird.supernet.accuracy.agenda import Agenda, config_of
from tailorbird.supernet.accuracy.anchors import choose_anchors
from tailorbird.supernet.accuracy.decay import DecayCurve
from tailorbird.supernet.accuracy.evaluator import Evaluator, Judged, require_finite
from tailorbird.supernet.accuracy.identity import net_digest
from tailorbird.supernet.accuracy.kriging import Kriging
from tailorbird.supernet.accuracy.memory import Memory
from tailorbird.supernet.accuracy.probing import Prober
from tailorbird.supernet.accuracy.samples import Samples, overlap
from tailorbird.supernet.accuracy.table import AccuracyTable, Anchor, Provenance
from tailorbird.supernet.recalibrate import has_batch_norm
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_PROBE_BATCH = 64  # samples whose activations are held at once
_PARTS = 10  # of the anchors, each left out once to find the error


def accuracy_table(
    net: SuperNet,
    loader: Iterable[Any],
    *,
    task: str | Task = "classification",
    recalibration: Iterable[Any] | None = None,
    training: Iterable[Any] | None = None,
    max_evaluations: int | None = None,
    anchors: int | None = None,
    probe_images: int = 256,
    recalibration_images: int = 512,
    evaluation_images: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    cache: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AccuracyTable:
    """Probe every factor and evaluate a few subnets on held-out data. The net is left as it was.

    loader: held-out samples, read once; only anchors need their labels, so that with `anchors=0` the table ranks
    subnets without any. task: by name, or the user's own; see `task`. recalibration: where anchors find their
    batch_norm statistics (default: the held-out inputs). training: the loader of fit(), without augmentation; the table
    then says which share of the held-out samples it holds, since probes on samples the weights have seen promise too
    much. max_evaluations: subnets run at most, probes, anchors and the full network together: each dimension's
    smallest choice is probed, two anchors for each dimension come next, then the other choices, which are otherwise
    interpolated. Where subnets learnt weights of their own nothing is probed within such a limit and all are anchors,
    see `additive`, unless `anchors` says how many. seed: decides which anchors. workers: processes of one thread each,
    whose results do not depend on their number; None computes here with torch's threads. cache: a folder in which every
    probe and evaluation is kept, found again by weights, search space, samples and options. anchors: subnets evaluated;
    by default as many as `max_evaluations` leaves room for, or 10. on_progress: called with (done, all) over probes and
    evaluations.

    Raises: UsageError for an empty loader, missing or impossible labels, or impossible options; InputShapeError for
    inputs that do not fit; EnvironmentFaultError when worker processes die.
    """
    _check(net, anchors, workers, probe_images, recalibration_images, evaluation_images)
    judge, begin = Task.of(task), time.monotonic()
    by_size = net.learnt is not None and max_evaluations is not None and anchors is None
    agenda = _agenda(net, max_evaluations, anchors, by_size=by_size)
    anchors, runs = agenda.anchors, agenda.anchors + bool(agenda.anchors)
    with torch.random.fork_rng():  # loaders draw from the global generator
        held = Samples.of(net, loader, max(probe_images, evaluation_images if anchors else 0), "evaluate")
        source = None
        if recalibration is not None and anchors and has_batch_norm(net):
            source = Samples.of(net, recalibration, recalibration_images, "recalibrate on")
        shared = None if training is None else overlap(net, held, training)
    whole = net.graph.batch is None
    probing, judging = held.first(probe_images, whole=whole), held.first(evaluation_images, whole=whole)
    evaluator = Evaluator.of(net, judge, judging, source, recalibration_images) if anchors else None
    memory = Memory.of(net, judge, cache)
    progress = _Progress(len(agenda.singles) + runs, on_progress)

    prober = Prober(net, judge, () if by_size else probing.chunks(probe_images, _PROBE_BATCH, whole=whole))
    configs = [config_of(net.space, change) for change in agenda.singles]
    probed = prober.all(configs, memory, workers, progress.counter(len(configs), len(prober.batches)))
    if by_size:
        model = Additive.by_size(net)
    else:
        model = Additive.of(net.space, agenda, [probed.divergences[config] for config in configs])
    found: list[Judged] = []
    if evaluator is not None:
        chosen = choose_anchors(net.space, model.divergence, anchors, seed)
        found = evaluator.all([Config(), *chosen], memory, workers, progress.counter(runs))
        require_finite(found[0], "the full network")
        progress.finish()
    calibrated = tuple(
        Anchor(e.config, model.divergence(e.config), e.accuracy) for e in found[1:] if math.isfinite(e.accuracy)
    )
    full = found[0].accuracy if found else 1.0
    curve, correction = _fitted(model, full, calibrated)
    recalibrated = evaluator.recalibration if evaluator else ()
    return AccuracyTable(
        model=model,
        full_accuracy=full,
        anchors=calibrated,
        curve=curve,
        correction=correction,
        error=_left_out_error(model, full, calibrated),
        notes=tuple(
            _notes(
                model,
                wanted=anchors,
                used=len(calibrated),
                overlap=shared,
                on_itself=source is None and bool(recalibrated),
                uncached=cache is not None and not memory.kept,
            )
        ),
        task=judge,
        provenance=Provenance(
            task=judge.name,
            seed=seed,
            probe_images=sum(batch.size for batch in prober.batches),
            recalibration_images=sum(batch.size for batch in recalibrated),
            evaluation_images=judging.count if anchors else 0,
            probe_sha256=probing.sha256() if configs else "",
            recalibration_sha256=(source or held).sha256() if recalibrated else "",
            evaluation_sha256=judging.sha256() if anchors else "",
            network_sha256=net_digest(net),
            probes=len(configs),
            evaluations=len(found),
            overlap=shared,
            remembered=probed.remembered + sum(evaluation.remembered for evaluation in found),
            seconds=time.monotonic() - begin,
        ),
    )


def _agenda(net: SuperNet, runs: int | None, anchors: int | None, *, by_size: bool) -> Agenda:
    return Agenda.unprobed(net.space, runs or 0) if by_size else Agenda.of(net.space, runs, anchors)


def _fitted(model: Additive, full: float, anchors: Sequence[Anchor]) -> tuple[DecayCurve, Kriging]:
    curve = DecayCurve.fit([(0.0, full), *((anchor.divergence, anchor.accuracy) for anchor in anchors)])
    left = [anchor.accuracy - curve(anchor.divergence) for anchor in anchors]
    return curve, Kriging.fit(model, [anchor.config for anchor in anchors], left)


def _left_out_error(model: Additive, full: float, anchors: Sequence[Anchor]) -> float:
    """Mean absolute error over the anchors, each predicted without it and every tenth other one."""
    if len(anchors) < 2:
        return 0.0
    errors: list[float] = []
    for part in range(min(_PARTS, len(anchors))):
        kept = [anchor for place, anchor in enumerate(anchors) if place % _PARTS != part]
        curve, correction = _fitted(model, full, kept)
        errors += [abs(curve(a.divergence) + correction(a.config) - a.accuracy) for a in anchors[part::_PARTS]]
    return sum(errors) / len(errors)


def _check(net: SuperNet, anchors: int | None, workers: int | None, *images: int) -> None:
    if anchors is not None and anchors < 0:
        raise UsageError(f"there cannot be {anchors} anchors", fix="pass 0 for a ranking alone, or about 10")
    if min(images) < 1:
        raise UsageError(f"nothing can be found out on {min(images)} images", fix="pass numbers of images from 1")
    if workers is not None and workers > 1 and net.device.type != "cpu":
        raise UsageError(
            f"{workers} workers cannot share a network on {net.device}",
            why="worker processes compute on the CPU",
            fix="leave `workers` out, or move the network: net.cpu()",
        )


class _Progress:
    """Runs done of all."""

    def __init__(self, total: int, report: Callable[[int, int], None] | None) -> None:
        self._total, self._report = total, report
        self._done = 0.0

    def counter(self, runs: int, parts: int = 1) -> Callable[[], None]:
        """To be called at every part of so many runs."""
        begin, calls = self._done, itertools.count(1)

        def count() -> None:
            self._done = begin + min(runs, next(calls) // parts)
            self._tell()

        return count

    def finish(self) -> None:
        """Small spaces have fewer anchors than wanted."""
        self._done = self._total
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._report(int(self._done), self._total)


def _notes(
    model: Additive, *, wanted: int, used: int, overlap: float | None, on_itself: bool, uncached: bool
) -> Iterator[str]:
    if overlap:
        yield (
            f"{overlap:.0%} of the held-out samples are also training samples: subnets look better on them than they "
            "are, and so do these predictions."
        )
    if not wanted:
        yield "No subnet was evaluated: predictions rank subnets, and are no accuracies."
    elif used < wanted:
        yield f"{used} of {wanted} anchors: the search space has no more, or their metric is no number."
    unprobed = sum(not factor.probed for factor in model.factors)
    if model.basis == SIZE:
        yield "No change was probed: each is weighed by the MACs and parameters that it removes."
    elif unprobed:
        yield (
            f"{unprobed} of {len(model.factors)} choices were not probed but interpolated between those of their "
            "dimension that were."
        )
    if on_itself:
        yield "Anchors found their batch_norm statistics on the held-out inputs."
    if uncached:
        yield "Nothing was cached: the functions of the task cannot be told apart from others."
