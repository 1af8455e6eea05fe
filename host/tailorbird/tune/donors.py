"""Whose schedules to try on a kernel: donors of its pattern from any model and device, the most promising first.

A donor is far by its loops' lengths and by its device, and worse the slower it is beside the best of its kind. All
three are octaves, so they add up: a vector half as wide costs as much as a loop twice as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tailorbird.db import Donor
from tailorbird.types.schedule import DeviceClass, Workload

_OTHER_MACHINE = 3.0  # x86 <-> Arm: register counts and vector widths differ, the form of a good schedule less
_UNKNOWN = 1.0  # neither the same CPU nor enough known to compare
_CACHE = 0.5


def shape_distance(one: Sequence[int], other: Sequence[int]) -> float:
    """Octaves between two kernels' loops, summed; infinite when they have different loops."""
    if len(one) != len(other):
        return math.inf
    return sum(abs(math.log2(max(a, 1) / max(b, 1))) for a, b in zip(one, other, strict=True))


def device_distance(one: DeviceClass, other: DeviceClass) -> float:
    """Octaves between two classes of boards: threads, vector width, caches; 0 for the same."""
    if one.name == other.name:
        return 0.0
    distance = abs(math.log2(one.threads / other.threads))
    if one.triple.partition("-")[0] != other.triple.partition("-")[0]:
        distance += _OTHER_MACHINE
    if one.vector_bits and other.vector_bits:
        distance += abs(math.log2(one.vector_bits / other.vector_bits))
    elif one.llvm_cpu != other.llvm_cpu:
        distance += _UNKNOWN
    for mine, theirs in zip(one.caches, other.caches, strict=True):
        if mine and theirs:
            distance += _CACHE * abs(math.log2(mine / theirs))
    return distance


def rank(groups: Iterable[Sequence[Donor]], workload: Workload, boards: DeviceClass, count: int) -> list[Donor]:
    """The best donors for a kernel. groups: donors of its pattern, then of looser ones, which may repeat the former."""
    penalties: dict[tuple[str, str], tuple[float, Donor]] = {}
    for looseness, donors in enumerate(groups):
        best = _best_rates(donors)
        for donor in donors:
            key = (donor.workload.key, donor.device_class.name)
            if key in penalties or (donor.workload.key == workload.key and donor.device_class.name == boards.name):
                continue
            penalty = looseness + shape_distance(donor.workload.shape, workload.shape)
            penalty += device_distance(donor.device_class, boards) + _shortfall(donor, best)
            if math.isfinite(penalty):
                penalties[key] = (penalty, donor)
    ranked = sorted(penalties.values(), key=lambda entry: (entry[0], entry[1].workload.key))
    return [donor for _, donor in ranked[:count]]


def _best_rates(donors: Sequence[Donor]) -> dict[str, float]:
    """Operations per microsecond of the best donor on each class of boards."""
    rates: dict[str, float] = {}
    for donor in donors:
        rates[donor.device_class.name] = max(rates.get(donor.device_class.name, 0.0), _rate(donor))
    return rates


def _shortfall(donor: Donor, best: dict[str, float]) -> float:
    """Octaves by which a donor is slower than the best of its pattern on its own boards."""
    rate = _rate(donor)
    return math.log2(best[donor.device_class.name] / rate) if rate > 0 else 0.0


def _rate(donor: Donor) -> float:
    return donor.workload.flops / donor.record.cpu_us if donor.record.cpu_us else 0.0
