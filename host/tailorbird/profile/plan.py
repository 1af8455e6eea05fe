"""Which kernels to measure on a device so that every subnet's time can be summed from them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tailorbird.profile.template import KernelsOf, KernelTemplate
from tailorbird.types import Config, Kernel

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace

#: More kernels than this are sampled and the others interpolated.
MOST_KERNELS: Final = 1500

_QUICK_SAMPLES = 1000
_SLOW_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """Kernels to measure, the most telling first.

    reachable: distinct kernels of the space (found in `subnets` random ones when not `exact`); the predictor
    interpolates those beyond the cap. entries: what a table would hold with an entry of its own for every place in the
    network and every shape there, equal or not; 0 when not `exact`.
    """

    specs: tuple[Kernel, ...]
    reachable: int
    subnets: int
    exact: bool = False
    entries: int = 0

    @property
    def complete(self) -> bool:
        """Whether every kernel that was found will be measured."""
        return len(self.specs) == self.reachable


def family(spec: Kernel) -> Hashable:
    """What kernels have in common whose times may be interpolated: of a KernelSpec, all but its channel counts."""
    return spec.family


def plan_kernels(
    space: SearchSpace,
    kernels_of: KernelsOf,
    *,
    cap: int = MOST_KERNELS,
    samples: int | None = None,
    seed: int = 0,
) -> KernelPlan:
    """The distinct kernels of all subnets of a space, at most `cap` of them.

    A KernelTemplate tells every kernel there is. Otherwise, and where a kernel has too many shapes to list, the full,
    the smallest and `samples` random subnets are looked at: 1000 of a template, 30 of what has to capture each. Within
    the cap, the smallest and largest kernel of every family come first (they bound what is interpolated), then those
    that occur in most subnets.
    """
    found = _every_kernel(kernels_of) if isinstance(kernels_of, KernelTemplate) and samples is None else None
    if found is not None:
        occurrences, subnets, entries = found[0], 0, found[1]
    else:
        samples = _samples_of(kernels_of) if samples is None else samples
        (occurrences, subnets), entries = _sampled(space, kernels_of, samples, seed), 0
    corners = _corners(occurrences)
    ranked = sorted(occurrences, key=lambda spec: (spec not in corners, -occurrences[spec], _shuffled(spec)))
    return KernelPlan(tuple(ranked[:cap]), len(occurrences), subnets, found is not None, entries)


def covering_subnets(
    space: SearchSpace, kernels_of: KernelsOf, wanted: Collection[Kernel], *, pool: int | None = None, seed: int = 0
) -> tuple[Config, ...]:
    """Few subnets that have all the wanted kernels between them, for runtimes that make kernels from whole networks.

    Greedy set cover over `pool` random subnets (as many as plan_kernels looks at); kernels that none of them has are
    left out.
    """
    pool = _samples_of(kernels_of) if pool is None else pool
    open_ = set(wanted)
    offers = {config: open_.intersection(kernels_of(config)) for config in _subnets(space, pool, seed)}
    chosen: list[Config] = []
    while open_ and offers:
        best = max(offers, key=lambda config: len(offers[config] & open_))
        if not offers[best] & open_:
            break
        chosen.append(best)
        open_ -= offers.pop(best)
    return tuple(chosen)


def _every_kernel(template: KernelTemplate) -> tuple[dict[Kernel, float], int] | None:
    """Each kernel of the space with its expected occurrences in a random subnet, and the number of table entries."""
    occurrences: dict[Kernel, float] = {}
    entries = 0
    for place in range(len(template.full)):
        shapes = template.shapes_at(place)
        if shapes is None:
            return None
        entries += len(shapes)
        for spec in shapes:
            occurrences[spec] = occurrences.get(spec, 0.0) + 1 / len(shapes)
    return occurrences, entries


def _sampled(space: SearchSpace, kernels_of: KernelsOf, samples: int, seed: int) -> tuple[dict[Kernel, float], int]:
    occurrences: Counter[Kernel] = Counter()
    subnets = 0
    for config in _subnets(space, samples, seed):
        occurrences.update(set(kernels_of(config)))
        subnets += 1
    return {spec: float(count) for spec, count in occurrences.items()}, subnets


def _samples_of(kernels_of: KernelsOf) -> int:
    return _QUICK_SAMPLES if isinstance(kernels_of, KernelTemplate) else _SLOW_SAMPLES


def _subnets(space: SearchSpace, samples: int, seed: int) -> Iterator[Config]:
    seen: set[Config] = set()
    for config in (space.full(), space.smallest(), *(space.sample(seed + number) for number in range(samples))):
        if config not in seen:
            seen.add(config)
            yield config


def _shuffled(spec: Kernel) -> str:
    """An order without meaning, the same in every run: what is equally frequent is sampled evenly."""
    return hashlib.sha256(spec.label.encode()).hexdigest()


def _corners(specs: Iterable[Kernel]) -> set[Kernel]:
    families: dict[Hashable, list[Kernel]] = {}
    for spec in specs:
        families.setdefault(spec.family, []).append(spec)
    ends: set[Kernel] = set()
    for members in families.values():
        for place in range(len(members[0].factors) - 1):  # the last factor is the arithmetic
            for ends_by in (
                lambda s, p=place: (s.factors[p], s.factors),
                lambda s, p=place: (s.factors[p], [-factor for factor in s.factors]),
            ):
                ends |= {min(members, key=ends_by), max(members, key=ends_by)}
    return ends
