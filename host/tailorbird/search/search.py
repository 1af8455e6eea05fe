"""Search: from a SuperNet, an accuracy and a latency to a ladder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tailorbird.errors import UsageError
from tailorbird.search.evolve import Objective, OnGeneration, evolve
from tailorbird.search.pareto import Point, pareto_front
from tailorbird.search.rungs import MIN_GAP, choose_rungs
from tailorbird.types import Config, Ladder, Rung

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace


_SHORTLIST = 14  # points that are evaluated before the answer
_SHORTLIST_GAP = 0.05

#: Accuracies of subnets, measured.
Confirm = Callable[[Sequence[Config]], Sequence[float]]
#: Microseconds of subnets, measured; those that do not run on the device are left out.
Measure = Callable[[Sequence[Config]], Mapping[Config, float]]


class Searchable(Protocol):
    """What a search needs of a SuperNet."""

    @property
    def space(self) -> SearchSpace:
        """All configurations."""
        ...

    def macs(self, config: Config) -> int:
        """Multiply-accumulates of a subnet."""
        ...

    def params(self, config: Config) -> int:
        """Parameters of a subnet."""
        ...


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The ladder, the whole Pareto front it was chosen from, and every point evaluated."""

    ladder: Ladder
    front: tuple[Point, ...]
    points: tuple[Point, ...]


def search(
    net: Searchable,
    accuracy: Objective,
    latency: Objective,
    *,
    model: str = "model",
    device: str = "local",
    measure: Measure | None = None,
    confirm: Confirm | None = None,
    rungs: int = 6,
    least: int = 4,
    gap: float = MIN_GAP,
    min_accuracy: float = 0.0,
    slo_us: float | None = None,
    population: int = 32,
    generations: int = 16,
    seed: int = 0,
    on_generation: OnGeneration | None = None,
) -> SearchResult:
    """Evolve subnets by accuracy (a fraction) and latency (microseconds) and choose a ladder from their Pareto front.

    measure: times subnets on the device, confirm: evaluates them; given either, the best spread points of the front
    are measured, evaluated, and the rungs chosen among those by what was found. slo_us: kept in the ladder; see
    slo_from to derive one.
    Raises GateError when fewer than `least` rungs fit, UsageError for impossible numbers of rungs.
    """
    if not 1 <= least <= rungs:
        raise UsageError(f"a ladder of {least} to {rungs} rungs is not possible", fix="ask for 1 <= least <= rungs")
    points = evolve(
        net.space,
        accuracy,
        latency,
        population=population,
        generations=generations,
        seed=seed,
        on_generation=on_generation,
    )
    front = pareto_front(points)
    predicted = {point.config: point.time_us for point in front}
    judged = front
    if measure is not None or confirm is not None:
        judged = choose_rungs(front, rungs=max(_SHORTLIST, 2 * rungs), least=1, gap=min(gap, _SHORTLIST_GAP))
    if measure is not None:
        times = measure([point.config for point in judged])
        judged = tuple(replace(point, time_us=times[point.config]) for point in judged if point.config in times)
    if confirm is not None:
        accuracies = confirm([point.config for point in judged])
        judged = tuple(replace(point, accuracy=found) for point, found in zip(judged, accuracies, strict=True))
    chosen = choose_rungs(judged, rungs=rungs, least=least, gap=gap, floor=min_accuracy)
    ladder = Ladder(
        model,
        device,
        tuple(
            Rung(
                name=f"r{number}",
                config=point.config,
                accuracy=point.accuracy,
                predicted_us=predicted[point.config],
                measured_us=None if measure is None else point.time_us,
                macs=net.macs(point.config),
                params=net.params(point.config),
            )
            for number, point in enumerate(chosen)
        ),
        slo_us,
    )
    return SearchResult(ladder, front, points)
