"""AccuracyTable: the accuracy of every subnet, predicted without training a predictor.

A subnet's divergence from the full network follows from probes on held-out samples, without labels, or from what it
removes (see `additive`).
One decreasing curve through a few subnets that were recalibrated and really evaluated turns it into accuracy, and what
the curve leaves at them is carried over to similar subnets (see `kriging`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.additive import ANSWERS, Additive, Factor
from tailorbird.supernet.accuracy.confirm import confirm
from tailorbird.supernet.accuracy.decay import DecayCurve
from tailorbird.supernet.accuracy.evaluation import Evaluation
from tailorbird.supernet.accuracy.kriging import Kriging
from tailorbird.supernet.space import SearchSpace
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True)
class Anchor:
    """A subnet that was recalibrated and evaluated: its predicted divergence and its accuracy, a fraction."""

    config: Config
    divergence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a table was made from. Digests are SHA-256 over the samples used, "" where none were.

    probes and evaluations: subnets that were probed and evaluated, the full network's evaluation included;
    remembered: how many runs of either the cache saved; overlap: share of the held-out samples that the training
    loader gives too, None where none was passed.
    """

    task: str
    seed: int
    probe_images: int
    recalibration_images: int
    evaluation_images: int
    probe_sha256: str
    recalibration_sha256: str
    evaluation_sha256: str
    network_sha256: str
    probes: int
    evaluations: int
    overlap: float | None
    remembered: int = field(compare=False)
    seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class AccuracyTable:
    """Predicts the accuracy of any subnet by a look-up.

    full_accuracy: of the user's own network on the held-out samples, a fraction (or the task's metric); 1 in a table
    without anchors, whose predictions rank subnets and say nothing else. error: mean absolute error of the anchors,
    each predicted by a table without it. notes: what a reader of the predictions should know, in sentences.
    """

    model: Additive
    full_accuracy: float
    anchors: tuple[Anchor, ...]
    curve: DecayCurve
    correction: Kriging
    error: float
    notes: tuple[str, ...]
    provenance: Provenance
    task: Task = field(repr=False, compare=False)

    @property
    def space(self) -> SearchSpace:
        """Where the subnets come from."""
        return self.model.space

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Every dimension at every choice but the full one."""
        return self.model.factors

    def divergence(self, config: Config) -> float:
        """Predicted distance of a configuration's answers from the full network's; for classes in nats. In a table
        without probes, about the share of MACs and parameters that it removes.

        Raises: UsageError for an invalid configuration.
        """
        return self.model.divergence(config)

    def predict(self, config: Config) -> float:
        """Predicted accuracy after recalibration, a fraction. Raises: UsageError for an invalid configuration."""
        return self.curve(self.divergence(config)) + self.correction(config)

    def confirm(
        self, net: SuperNet, candidates: Sequence[Config], loader: Iterable[Any], **options: Any
    ) -> tuple[Evaluation, ...]:
        """Recalibrate and evaluate the candidates of a search by this table's task; see `confirm.confirm`."""
        chosen: dict[str, Any] = {"task": self.task} | options
        return confirm(net, candidates, loader, **chosen)

    def to_json(self) -> str:
        """Everything but the search space and the functions of the task, as JSON."""
        return json.dumps(
            {
                "full_accuracy": self.full_accuracy,
                "error": self.error,
                "notes": list(self.notes),
                "provenance": asdict(self.provenance),
                "curve": asdict(self.curve),
                "correction": self.correction.to_json(),
                "basis": self.model.basis,
                "factors": [asdict(factor) for factor in self.factors],
                "anchors": [
                    {"config": json.loads(a.config.to_json()), "divergence": a.divergence, "accuracy": a.accuracy}
                    for a in self.anchors
                ],
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str, space: SearchSpace, task: Task | None = None) -> AccuracyTable:
        """Inverse of to_json for the same search space. task: needed where it was the user's own.

        Raises: UsageError when the text is no table, or one of another space.
        """
        try:
            data = json.loads(text)
            model = _model(data, space)
            anchors = tuple(
                Anchor(Config.from_json(json.dumps(a["config"])), a["divergence"], a["accuracy"])
                for a in data["anchors"]
            )
            return cls(
                model=model,
                full_accuracy=data["full_accuracy"],
                anchors=anchors,
                curve=DecayCurve.from_json(data["curve"]),
                correction=Kriging.from_json(data["correction"], model, [anchor.config for anchor in anchors]),
                error=data["error"],
                notes=tuple(data["notes"]),
                provenance=Provenance(**data["provenance"]),
                task=task or Task.of(data["provenance"]["task"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "this is no accuracy table",
                why=f"{type(error).__name__}: {error}",
                fix="pass what AccuracyTable.to_json returned",
            ) from error


def _model(data: dict[str, Any], space: SearchSpace) -> Additive:
    factors = tuple(Factor(**factor) for factor in data["factors"])
    if {(f.name, f.choice) for f in factors} != {(d.name, k) for d in space.dimensions for k in d.choices[:-1]}:
        raise UsageError(
            "this accuracy table belongs to another search space",
            why=f"it has {len(factors)} factors, which are not the choices of this one",
            fix="compile the network with the options it had when the table was made",
        )
    return Additive(space, factors, data.get("basis", ANSWERS))
