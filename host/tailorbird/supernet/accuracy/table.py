"""AccuracyTable: the accuracy of every subnet, predicted without training a predictor.

Each factor (one dimension at one choice, one skipped block) is probed alone: the KL divergence of the subnet's answers
from the full network's. Divergences add up over factors, as in Puzzle (Bercovich et al., 2024) and the additive
sensitivity of AutoTailor; one decreasing curve through a few subnets that were really evaluated turns the sum into
accuracy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from tailorbird.errors import UsageError
from tailorbird.graph import Inputs
from tailorbird.supernet.accuracy.anchors import choose_anchors
from tailorbird.supernet.accuracy.curve import DecreasingCurve
from tailorbird.supernet.accuracy.measure import accuracy, evaluating
from tailorbird.supernet.accuracy.probe import Probe
from tailorbird.supernet.loader import Batch, read
from tailorbird.supernet.recalibrate import recalibrate
from tailorbird.supernet.space import SearchSpace
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_PROBE_BATCH = 64  # samples whose activations are held at once


@dataclass(frozen=True, slots=True)
class Factor:
    """One probed change: a dimension at a choice (0 for a skipped block) and its divergence in nats."""

    name: str
    choice: int
    divergence: float


@dataclass(frozen=True, slots=True)
class Anchor:
    """A subnet that was recalibrated and evaluated: its summed divergence and its accuracy, a fraction."""

    config: Config
    divergence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a table was made from."""

    probe_images: int
    recalibration_images: int
    evaluation_images: int
    seed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Predicts the accuracy of any subnet by a look-up.

    error: mean absolute error of the anchors when each is left out of the curve, a fraction.
    """

    space: SearchSpace = field(repr=False, compare=False)
    full_accuracy: float
    factors: tuple[Factor, ...]
    anchors: tuple[Anchor, ...]
    curve: DecreasingCurve
    error: float
    provenance: Provenance

    def divergence(self, config: Config) -> float:
        """Summed divergence of a configuration's factors, nats. Raises: UsageError for an invalid configuration."""
        return _summed({(f.name, f.choice): f.divergence for f in self.factors}, self.space.canonical(config))

    def predict(self, config: Config) -> float:
        """Predicted top-1 accuracy after recalibration, a fraction. Raises: UsageError for an invalid configuration."""
        return self.curve(self.divergence(config))

    def to_json(self) -> str:
        """Factors, anchors, curve and provenance as JSON."""
        return json.dumps(
            {
                "full_accuracy": self.full_accuracy,
                "error": self.error,
                "provenance": asdict(self.provenance),
                "curve": asdict(self.curve),
                "factors": [asdict(factor) for factor in self.factors],
                "anchors": [
                    {"config": json.loads(a.config.to_json()), "divergence": a.divergence, "accuracy": a.accuracy}
                    for a in self.anchors
                ],
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str, space: SearchSpace) -> AccuracyTable:
        """Inverse of to_json for the same search space."""
        data = json.loads(text)
        curve = data["curve"]
        return cls(
            space=space,
            full_accuracy=data["full_accuracy"],
            factors=tuple(Factor(**factor) for factor in data["factors"]),
            anchors=tuple(
                Anchor(Config.from_json(json.dumps(a["config"])), a["divergence"], a["accuracy"])
                for a in data["anchors"]
            ),
            curve=DecreasingCurve(tuple(curve["xs"]), tuple(curve["ys"]), curve["floor"]),
            error=data["error"],
            provenance=Provenance(**data["provenance"]),
        )


def accuracy_table(
    net: SuperNet,
    loader: Iterable[Any],
    *,
    recalibration: Iterable[Any] | None = None,
    probe_images: int = 128,
    recalibration_images: int = 128,
    evaluation_images: int = 500,
    anchors: int = 8,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> AccuracyTable:
    """Probe every factor and evaluate a few subnets on held-out data. The net is left as it was.

    loader: (inputs, labels), read once; recalibration: where anchors find their batch_norm statistics (default: the
    same inputs, without labels); on_progress: called with (done, all) over probes and anchors.

    Raises: UsageError when the loader is empty or gives no labels.
    """
    begin = time.monotonic()
    device = net.device
    batches = list(read(loader, device, evaluation_images))
    if not batches:
        raise UsageError("there is nothing to evaluate", why="the loader gave no batch", fix="pass a loader with data")
    held = [(batch.inputs.args, batch.known()) for batch in batches]
    source = held if recalibration is None else recalibration
    singles = _single_factors(net.space)
    total = len(singles) + anchors
    report = on_progress or (lambda _done, _all: None)
    with evaluating(net):
        sums = dict.fromkeys(singles, 0.0)
        chunks = _chunks(batches, probe_images)
        for index, chunk in enumerate(chunks):
            probe = Probe(net, chunk)
            for place, config in enumerate(singles):
                sums[config] += probe.divergence(config) * chunk.size
                report((index * len(singles) + place + 1) // len(chunks), total)
        probed = sum(chunk.size for chunk in chunks)
        terms = {_factor(net.space, config): max(0.0, value / probed) for config, value in sums.items()}
        full = accuracy(net, Config(), held)
        found = []
        for place, config in enumerate(choose_anchors(net.space, lambda config: _summed(terms, config), anchors, seed)):
            found.append(
                Anchor(config, _summed(terms, config), _evaluate(net, config, source, recalibration_images, held))
            )
            report(len(singles) + place + 1, total)
    points = [(0.0, full), *((a.divergence, a.accuracy) for a in found)]
    return AccuracyTable(
        space=net.space,
        full_accuracy=full,
        factors=tuple(Factor(name, choice, value) for (name, choice), value in terms.items()),
        anchors=tuple(found),
        curve=DecreasingCurve.fit(points),
        error=_left_out_error(points),
        provenance=Provenance(
            probed, recalibration_images, sum(b.size for b in batches), seed, time.monotonic() - begin
        ),
    )


def _single_factors(space: SearchSpace) -> list[Config]:
    """Every configuration that changes one thing."""
    sized = [Config.of({d.name: k}) for d in space.dimensions if d.kind != "depth" for k in d.choices[:-1]]
    return [*sized, *(Config.of(skipped=(block.name,)) for block in space.depth)]


def _factor(space: SearchSpace, config: Config) -> tuple[str, int]:
    return config.sizes[0] if space.canonical(config).sizes else (config.skipped[0], 0)


def _summed(terms: dict[tuple[str, int], float], config: Config) -> float:
    return sum(terms[item] for item in config.sizes) + sum(terms[name, 0] for name in config.skipped)


def _chunks(batches: list[Batch], limit: int) -> list[Batch]:
    """The first `limit` samples in batches of equal, bounded size."""
    spec = batches[0].inputs.structure
    leaves = [batch.inputs.leaves for batch in batches]
    joined = [torch.cat(parts)[:limit] for parts in zip(*leaves, strict=True)]
    parts = [x.split(_PROBE_BATCH) for x in joined]
    return [Batch(Inputs(*pytree.tree_unflatten(chosen, spec))) for chosen in zip(*parts, strict=True)]


def _evaluate(net: SuperNet, config: Config, source: Iterable[Any], images: int, held: list[Any]) -> float:
    before = net.statistics(config)
    recalibrate(net, config, source, images)
    result = accuracy(net, config, held)
    net.set_statistics(config, before)
    return result


def _left_out_error(points: list[tuple[float, float]]) -> float:
    """Mean absolute error over the points but the first (the full network), each predicted by a curve without it."""
    if len(points) < 3:
        return 0.0
    errors = []
    for index in range(1, len(points)):
        x, y = points[index]
        errors.append(abs(DecreasingCurve.fit([*points[:index], *points[index + 1 :]])(x) - y))
    return sum(errors) / len(errors)
