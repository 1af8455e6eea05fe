"""Which kernels to measure on a device so that every subnet's time can be summed from them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailorbird.profile.template import KernelsOf, KernelTemplate
from tailorbird.types import Config, KernelSpec

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace

_QUICK_SAMPLES = 1000
_SLOW_SAMPLES = 30


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """Kernels to measure, the most telling first.

    reachable: distinct kernels found in the `subnets` looked at; the predictor interpolates those beyond the cap.
    """

    specs: tuple[KernelSpec, ...]
    reachable: int
    subnets: int

    @property
    def complete(self) -> bool:
        """Whether every kernel that was found will be measured."""
        return len(self.specs) == self.reachable


def family(spec: KernelSpec) -> KernelSpec:
    """The spec without its channel counts: kernels of one family differ only in those."""
    return dataclasses.replace(spec, in_channels=0, out_channels=0)


def plan_kernels(
    space: SearchSpace, kernels_of: KernelsOf, *, cap: int = 200, samples: int | None = None, seed: int = 0
) -> KernelPlan:
    """Distinct kernels of the full, the smallest and up to `samples` random subnets, at most `cap` of them.

    samples: by default 1000 when kernels_of is a KernelTemplate, 30 when it has to capture each subnet. Within the cap,
    the smallest and largest kernel of every family come first (they bound what is interpolated), then the kernels that
    occur in most subnets.
    """
    if samples is None:
        samples = _QUICK_SAMPLES if isinstance(kernels_of, KernelTemplate) else _SLOW_SAMPLES
    occurrences: Counter[KernelSpec] = Counter()
    subnets = 0
    for config in _subnets(space, samples, seed):
        occurrences.update(set(kernels_of(config)))
        subnets += 1
    corners = _corners(occurrences)
    ranked = sorted(occurrences, key=lambda spec: (spec not in corners, -occurrences[spec], spec.label))
    return KernelPlan(tuple(ranked[:cap]), len(occurrences), subnets)


def _subnets(space: SearchSpace, samples: int, seed: int) -> Iterator[Config]:
    seen: set[Config] = set()
    for config in (space.full(), space.smallest(), *(space.sample(seed + number) for number in range(samples))):
        if config not in seen:
            seen.add(config)
            yield config


def _corners(specs: Iterable[KernelSpec]) -> set[KernelSpec]:
    families: dict[KernelSpec, list[KernelSpec]] = {}
    for spec in specs:
        families.setdefault(family(spec), []).append(spec)
    ends: set[KernelSpec] = set()
    for members in families.values():
        for ends_by in (
            lambda s: (s.in_channels, s.out_channels),
            lambda s: (s.out_channels, s.in_channels),
            lambda s: (s.in_channels, -s.out_channels),
        ):
            ends |= {min(members, key=ends_by), max(members, key=ends_by)}
    return ends
