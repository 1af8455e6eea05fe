"""Latency stage: the equal-latency comparison of a case, on an agent of its own on this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from tailorbird.supernet import SuperNet
from tests.bench.accuracy import prediction, training
from tests.bench.accuracy.clock import CpuClock
from tests.bench.accuracy.settings import Case
from tests.bench.equal_latency import headline

Found = dict[str, Any]


def settings(case: Case) -> dict[str, Any]:
    """What decides about the comparison."""
    return case.trained | {"methods": list(headline.STANDARD)}


def known(case: Case) -> Found | None:
    """What was found, if it was measured."""
    record = case.work.record("headline", settings(case))
    return None if record is None else record.found | {"wall_seconds": record.wall_seconds}


def compare(case: Case, net: SuperNet) -> None:
    """Compare once and for all. Parts of it are kept on their own, so that it goes on where it was stopped.

    Raises: ValueError for a budget of epochs, which no other method could be given.
    """
    if case.budget.seconds is None or case.settings.device != "cpu":
        raise ValueError(f"{case.name}: the headline comparison needs a budget in minutes on the CPU")
    case.work.once("headline", settings(case), lambda: _compare(case, net))


def _compare(case: Case, net: SuperNet) -> Found:
    images, recalibration, seed = case.images, case.settings.recalibration, 0
    data = headline.Data(
        train=images.training(case.settings.batch, case.settings.training_seed),
        recalibration=images.recalibration(recalibration),
        validation=images.held_batches(images.validation(seed)),
        evaluation=images.held_batches(slice(0, images.evaluation)),
    )
    table = prediction.table(case, net, seed)
    with (
        tempfile.TemporaryDirectory() as folder,  # short enough for the path of a Unix socket
        headline.private_device(Path(folder)) as (device, store),
    ):
        return headline.run(
            case.pretrained(),
            net,
            data,
            device,
            store,
            headline.Options(budget_s=case.budget.seconds or 0.0, recalibration_images=recalibration),
            fitted=training.known(case),
            predict=table.predict,
            identity={"net": case.network.name, "batch": case.settings.batch},
            clock=CpuClock(),
            seed=seed,
            stage=lambda name, inputs, make: case.work.once(name, inputs, make).found,
            note=lambda text: print(f"{case.name}: {text}", file=sys.stderr, flush=True),
        )
