"""Additive accuracy: each change is evaluated alone, and its losses add up.

AutoTailor (Liu et al., arXiv 2511.22355, 2025): evaluate the full network and every change of one dimension with
batch_norm recalibrated, and predict base + sum of differences. NVIDIA's FastNAS (TensorRT Model Optimizer) takes the
largest degradation among the changes instead of the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from tailorbird.errors import UsageError
from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.evaluation import Evaluations, evaluate
from tailorbird.supernet.space import SearchSpace
from tailorbird.supernet.task import Task
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_Factor = tuple[str, int]  # a dimension and its choice; 0 for a skipped block


def additive(
    net: SuperNet,
    validation: Iterable[Any],
    recalibration: Iterable[Any] | None = None,
    *,
    combine: str = "sum",
    images: int | None = None,
    recalibration_images: int = 2000,
    task: str | Task = "classification",
    anchors: Evaluations | None = None,
    singles: Evaluations | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Evaluates the full network and every single change (len(single_changes(net.space)) evaluations).

    combine: "sum" as AutoTailor does, "max" for the largest degradation as FastNAS does. The sum may leave 0..1: it is
    the published prediction, as it is. anchors: put it through a curve as well, which the publications do not. singles:
    evaluations of all of single_changes(net.space), where they are known already. The other options are those of
    `evaluate`. Raises: UsageError.
    """
    if combine not in {"sum", "max"}:
        raise UsageError(f"differences cannot be combined by {combine!r}", fix="pass 'sum' or 'max'")
    known = singles or evaluate(
        net,
        single_changes(net.space),
        validation,
        recalibration,
        images=images,
        recalibration_images=recalibration_images,
        task=task,
        on_progress=on_progress,
    )
    base = known.accuracy(Config())
    if base is None:
        raise UsageError("the full network is not among the evaluations", fix="evaluate single_changes(net.space)")
    deltas = {_factors(one.config)[0]: one.accuracy - base for one in known.found if not one.config.is_full}

    def predicted(config: Config) -> float:
        changes = _factors(config)
        if missing := [change for change in changes if change not in deltas]:
            raise UsageError(
                f"the change of {missing[0][0]} to {missing[0][1]} was not evaluated",
                fix="evaluate single_changes(net.space), all of them",
            )
        losses = [deltas[change] for change in changes]
        return base + (sum(losses) if combine == "sum" else min(losses, default=0.0))

    name = "additive" if combine == "sum" else "additive-max"
    return Scored(name, net.space, predicted, anchors, calibrated=True, evaluations=len(known), seconds=known.seconds)


def single_changes(space: SearchSpace) -> list[Config]:
    """The full network, then every configuration that differs from it in one choice."""
    sized = [Config.of({d.name: size}) for d in space.dimensions if d.kind != "depth" for size in d.choices[:-1]]
    return [Config(), *sized, *(Config.of(skipped=(block.name,)) for block in space.depth)]


def _factors(config: Config) -> list[_Factor]:
    return [*config.sizes, *((name, 0) for name in config.skipped)]
