"""Our side of the headline comparison: rungs of a trained SuperNet, found as `tb.search` finds them.

Accuracy is predicted by an accuracy table, latency by a model of kernels measured on the device; subnets of the
predicted front, and the best ones predicted for each deadline, are recalibrated and evaluated on validation images.
Those that another beats there go no further. No subnet is fine-tuned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tailorbird.db import Store
from tailorbird.device import Device
from tailorbird.flow.latency import profile_latency
from tailorbird.flow.source import fingerprint
from tailorbird.flow.workspace import Note, silent
from tailorbird.search import Point, choose_rungs, evolve
from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import accuracy, accuracy_table
from tailorbird.types import Config
from tests.bench.equal_latency.entrant import Entrant, Judges, judged
from tests.bench.equal_latency.finetune import Batch

METHOD = "ours"


@dataclass(frozen=True, slots=True)
class Climb:
    """How hard to look. rungs: subnets of the predicted front to confirm; beside them the best one predicted for each
    deadline, `margin` below it; slack: how much faster (predicted) a subnet must be to make another one superfluous.
    """

    rungs: int = 12
    gap: float = 0.05
    margin: float = 0.04
    slack: float = 0.1
    kernels: int = 120
    samples: int = 8
    held_out: int = 6
    population: int = 48
    generations: int = 40


Predict = Callable[[Config], float]


def climb(
    net: SuperNet,
    recalibration: Iterable[Batch],
    recalibration_images: int,
    judges: Judges,
    device: Device,
    store: Store,
    options: Climb,
    *,
    deadlines_us: Sequence[float] = (),
    predict: Predict | None = None,
    seed: int = 0,
    note: Note = silent,
) -> tuple[list[Entrant], dict[str, Any]]:
    """Confirmed rungs, fastest first as predicted, and how they were found.

    deadlines_us: latencies of the others; predict: accuracy of a subnet, by default an accuracy table made here from
    the validation images.
    """
    started = time.monotonic()
    profile = profile_latency(
        store,
        net,
        (judges.example,),
        device,
        identity=fingerprint(net),
        kernels=options.kernels,
        samples=options.samples,
        held_out=options.held_out,
        seed=seed,
        note=note,
    )
    profiled = time.monotonic()
    if predict is None:
        predict = accuracy_table(net, judges.validation, recalibration=recalibration, seed=seed).predict
    tabled = time.monotonic()
    points = evolve(
        net.space,
        predict,
        profile.model.predict_us,
        population=options.population,
        generations=options.generations,
        seed=seed,
    )
    chosen = candidates(points, net.space.full(), deadlines_us, options)
    searched = time.monotonic()
    confirmed = []
    for point in chosen:
        note(f"confirming a subnet of {point.time_us / 1e3:.2f} ms")
        net.recalibrate(point.config, recalibration, recalibration_images)
        confirmed.append(replace(point, accuracy=accuracy(net, point.config, judges.validation)))
    kept = undominated(confirmed, options.slack)
    predicted = {point.config: point.accuracy for point in chosen}
    rungs = [
        _entrant(net, f"rung {number}", point, predicted[point.config], judges) for number, point in enumerate(kept)
    ]
    error = profile.model.error
    return rungs, {
        "options": asdict(options),
        "subnets_judged": len(points),
        "confirmed": len(confirmed),
        "kept": len(kept),
        "latency_mape_percent": error.mape if error else None,
        "latency_spearman": error.spearman if error else None,
        "profile_s": profiled - started,
        "table_s": tabled - profiled,
        "search_s": searched - tabled,
        "confirm_s": time.monotonic() - searched,
    }


def candidates(
    points: Sequence[Point], full: Config, deadlines_us: Sequence[float], options: Climb
) -> tuple[Point, ...]:
    """What to confirm, fastest first: a ladder of the front, the best below each deadline, the full network."""
    ladder = choose_rungs(points, rungs=options.rungs, least=1, gap=options.gap)
    found = dict.fromkeys(ladder)
    for deadline in deadlines_us:
        in_time = [p for p in points if p.time_us <= deadline * (1 - options.margin)]
        if in_time:
            found[max(in_time, key=lambda p: (p.accuracy, -p.time_us))] = None
    found |= dict.fromkeys(p for p in points if p.config == full)
    return tuple(sorted(found, key=lambda p: (p.time_us, -p.accuracy)))


def undominated(points: Sequence[Point], slack: float) -> tuple[Point, ...]:
    """Points that no other is as accurate as and more than `slack` (a share) faster than."""
    return tuple(
        point
        for point in points
        if not any(p.accuracy >= point.accuracy and p.time_us < point.time_us * (1 - slack) for p in points)
    )


def _entrant(net: SuperNet, name: str, point: Point, predicted: float, judges: Judges) -> Entrant:
    details = {
        "sizes": dict(point.config.sizes),
        "skipped": list(point.config.skipped),
        "predicted_us": point.time_us,
        "predicted_accuracy": predicted,
    }
    return judged(METHOD, name, net.extract(point.config), judges, details, validation=point.accuracy)
