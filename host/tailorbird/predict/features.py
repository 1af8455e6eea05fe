"""Features of subnets for predictors that learn: what a configuration is made of, as rows of numbers.

    which        each choice of each dimension, each block there or not, and each whole configuration of a block
    how much     kernels by kind, multiply-accumulates, bytes, arithmetic by intensity, launches, longest path, roofline
    elsewhere    the sum of its kernels' times on every device that has a kernel table

Blocks count as a whole because layers within one interact: a sum of independent choices misses a tenth and more of the
latency where width, expansion and resolution multiply. Columns depend on the space alone, so matrices of one FeatureMap
go together. They are unscaled.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tailorbird.predict.kernel_sum import KernelSum
from tailorbird.profile import KernelsOf, KernelTable, KernelTemplate
from tailorbird.types import Config, Kernel, KernelSpec, TensorProgram

if TYPE_CHECKING:
    from tailorbird.supernet import SearchSpace, SuperNet

#: A block with more configurations than this is described by its dimensions alone.
_MOST_COMBINATIONS: Final = 64
#: Multiply-accumulates per byte, between buckets.
_INTENSITIES: Final = (0.5, 2.0, 8.0)
#: Of the roofline: multiply-accumulates that take as long as one byte on a CPU with vector units.
_RIDGE: Final = 8.0
_ITEM_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class _Whole:
    """A block and the dimensions that decide what it costs."""

    block: str
    dimensions: tuple[str, ...]
    combinations: tuple[tuple[int, ...], ...]


class FeatureMap:
    """Features of one SuperNet's subnets.

    kernels_of: kernels of a subnet; tables: of devices by name, kernel times, or a sum of times where the device's
    runtime has other kernels. names: of the columns.
    """

    def __init__(
        self, net: SuperNet, kernels_of: KernelsOf, tables: Mapping[str, KernelTable | KernelSum] | None = None
    ) -> None:
        self._net = net
        self._kernels_of = kernels_of
        self._sums = {
            name: table if isinstance(table, KernelSum) else KernelSum(table, kernels_of)
            for name, table in (tables or {}).items()
        }
        self._sizes = [d for d in net.space.dimensions if d.kind != "depth" and len(d.choices) > 1]
        self._blocks = [d.name for d in net.space.depth]
        self._wholes = _wholes(net.space, kernels_of)
        ends = (net.space.full(), net.space.smallest())
        self._kinds = sorted({_kind(spec) for config in ends for spec in kernels_of(config)})
        self.names: tuple[str, ...] = (
            *(f"{d.name}={choice}" for d in self._sizes for choice in d.choices),
            *self._blocks,
            *(f"{w.block}:{'/'.join(map(str, sizes))}" for w in self._wholes for sizes in w.combinations),
            *(f"count {kind}" for kind in self._kinds),
            *(f"macs {kind}" for kind in self._kinds),
            *(f"macs at intensity {bucket}" for bucket in range(len(_INTENSITIES) + 1)),
            "macs",
            "log macs",
            "activation bytes",
            "weight bytes",
            "launches",
            "longest path, operations",
            "longest path, macs",
            "roofline",
            *(f"kernel sum on {name}" for name in self._sums),
        )

    def __call__(self, configs: Sequence[Config]) -> NDArray[np.float64]:
        """One row per configuration: (configurations, columns), in the order of `names`.

        Raises UsageError for a configuration of another space.
        """
        return np.array([self._row(config) for config in configs], np.float64).reshape(len(configs), len(self.names))

    def _row(self, config: Config) -> list[float]:
        config = self._net.space.canonical(config)
        kernels = self._kernels_of(config)
        return [
            *self._which(config),
            *self._how_much(config, kernels),
            *(device.sum_us(config) for device in self._sums.values()),
        ]

    def _which(self, config: Config) -> list[float]:
        sizes = {d.name: d.size for d in self._sizes} | dict(config.sizes)
        dead, gone = self._net.space.dead(config)
        skipped = gone | set(config.skipped)
        row = [float(choice == sizes[d.name] and d.name not in dead) for d in self._sizes for choice in d.choices]
        row += [float(name not in skipped) for name in self._blocks]
        for whole in self._wholes:
            own = tuple(sizes[name] for name in whole.dimensions)
            row += [float(sizes_ == own and whole.block not in skipped) for sizes_ in whole.combinations]
        return row

    def _how_much(self, config: Config, kernels: Sequence[Kernel]) -> list[float]:
        counts, macs = Counter[str](), Counter[str]()
        buckets = [0.0] * (len(_INTENSITIES) + 1)
        activations = weights = 0
        roofline = 0.0
        for spec in kernels:
            moved = spec.activation_bytes + _ITEM_BYTES * spec.weight_count
            counts[_kind(spec)] += 1
            macs[_kind(spec)] += spec.macs
            buckets[sum(spec.macs > limit * moved for limit in _INTENSITIES)] += spec.macs
            activations += spec.activation_bytes
            weights += _ITEM_BYTES * spec.weight_count
            roofline += max(spec.macs / _RIDGE, moved)
        total = self._net.macs(config)
        path = self._net.critical_path(config)
        return [
            *(float(counts[kind]) for kind in self._kinds),
            *(float(macs[kind]) for kind in self._kinds),
            *buckets,
            float(total),
            math.log(max(total, 1)),
            float(activations),
            float(weights),
            float(len(kernels)),
            float(path.operations),
            float(path.macs),
            roofline,
        ]


def features(
    net: SuperNet,
    configs: Sequence[Config],
    kernels_of: KernelsOf,
    tables: Mapping[str, KernelTable | KernelSum] | None = None,
) -> NDArray[np.float64]:
    """Feature rows of configurations, (configurations, columns); see FeatureMap, which also names the columns."""
    return FeatureMap(net, kernels_of, tables)(configs)


def _kind(spec: Kernel) -> str:
    """Kernels of one kind are counted together."""
    if isinstance(spec, KernelSpec):
        return spec.op
    return spec.name if isinstance(spec, TensorProgram) else str(spec.program)


def _wholes(space: SearchSpace, kernels_of: KernelsOf) -> tuple[_Whole, ...]:
    """Of each block, the dimensions its kernels follow, or where that is not known those that vanish with it."""
    choices = {d.name: d.choices for d in space.dimensions if d.kind != "depth" and len(d.choices) > 1}
    found = []
    for block in space.depth:
        if isinstance(kernels_of, KernelTemplate):
            run = set(kernels_of.runs[block.name])
            names = tuple(name for name in choices if run.intersection(kernels_of.places_of(name)))
        else:
            dead, _ = space.dead(Config.of(skipped=[block.name]))
            names = tuple(name for name in choices if name in dead)
        if len(names) > 1 and math.prod(len(choices[name]) for name in names) <= _MOST_COMBINATIONS:
            combinations = tuple(itertools.product(*(choices[name] for name in names)))
            found.append(_Whole(block.name, names, combinations))
    return tuple(found)
