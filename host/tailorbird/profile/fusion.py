"""Which operations a device's runtime fuses, found by timing pairs, as nn-Meter does (Zhang et al. 2021, section 3).

    saving = T1 + T2 - T12,     fused when saving > alpha * min(T1, T2)

T12 is one module with both operations. Every module also pays for a call and for copying its inputs and outputs, which
a pair pays once: for operations of a few microseconds that alone looks like fusion. So the joint that any two modules
save is fitted first, over the pairs that save least, as call + copy * bytes; the rule is applied to what is saved
beyond it and to what the operations take beyond their own call and copies.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.optimize import nnls  # type: ignore[import-untyped, unused-ignore]

from tailorbird.types import Kernel, KernelSpec

Pair = tuple[KernelSpec, KernelSpec]

_ALPHA: Final = 0.5  # nn-Meter's
_ROUNDS: Final = 5
#: Share of its time alone that an operation takes at least within a module.
_LEAST: Final = 0.1
_ITEM_BYTES: Final = 4


def unfused(kernels: Iterable[KernelSpec]) -> tuple[KernelSpec, ...]:
    """Kernels taken apart into single operations: rectifiers stand by themselves."""
    found: list[KernelSpec] = []
    for spec in kernels:
        found.append(replace(spec, activation="") if spec.activation else spec)
        if spec.activation:
            height, width = spec.output_size
            found.append(
                KernelSpec(
                    "activation",
                    spec.out_channels,
                    spec.out_channels,
                    height,
                    width,
                    activation=spec.activation,
                    batch=spec.batch,
                )
            )
    return tuple(found)


def kind(pair: Pair) -> tuple[str, str]:
    """The operations of a pair by name, rectifiers by their own: what a fusion rule speaks of."""
    first, second = (spec.activation if spec.op == "activation" else spec.op for spec in pair)
    return (first, second)


def adjacent(operations: Sequence[KernelSpec]) -> tuple[Pair, ...]:
    """Operations in a row of which the second takes what the first gives, by shape."""
    return tuple((a, b) for a, b in itertools.pairwise(operations) if _fits(a, b))


def fusion_probes(
    networks: Iterable[Sequence[KernelSpec]], *, per_kind: int = 3, among: Collection[Kernel] | None = None
) -> tuple[Pair, ...]:
    """Pairs to time: of every kind that occurs in the networks the one of least work, of most, and some between.

    among: only pairs of these operations, which will be timed alone, too.
    """
    kinds: dict[tuple[str, str], set[Pair]] = {}
    for operations in networks:
        for pair in adjacent(operations):
            if among is None or (pair[0] in among and pair[1] in among):
                kinds.setdefault(kind(pair), set()).add(pair)
    probes: list[Pair] = []
    for name in sorted(kinds):
        ranked = sorted(kinds[name], key=lambda p: (p[0].macs + p[1].macs, p[0].label, p[1].label))
        count = min(per_kind, len(ranked))
        chosen = {round(index * (len(ranked) - 1) / max(1, count - 1)) for index in range(count)}
        probes += [ranked[index] for index in sorted(chosen)]
    return tuple(probes)


@dataclass(frozen=True, slots=True)
class FusionRule:
    """Whether a device fuses one kind of pair. share: median over `probes` of what is saved beyond a joint, of min."""

    kind: tuple[str, str]
    fused: bool
    share: float
    probes: int


@dataclass(frozen=True, slots=True)
class Fusions:
    """The fusion rules of a device and runtime, and what a module of its own costs there."""

    rules: Mapping[tuple[str, str], FusionRule]
    call_us: float
    copy_us_per_byte: float

    @classmethod
    def of(cls, times_us: Mapping[Kernel, float], pairs_us: Mapping[Pair, float], *, alpha: float = _ALPHA) -> Fusions:
        """From single operations and pairs of them. Raises ValueError when no pair has both of its operations."""
        known = {pair: us for pair, us in pairs_us.items() if pair[0] in times_us and pair[1] in times_us}
        if not known:
            raise ValueError("no pair was timed together with both of its operations")
        least = {pair: min(times_us[pair[0]], times_us[pair[1]]) for pair in known}
        saved = {pair: times_us[pair[0]] + times_us[pair[1]] - us for pair, us in known.items()}
        middle = statistics.median(saved[pair] / least[pair] for pair in known)
        plain = [pair for pair in known if saved[pair] / least[pair] <= middle]
        rules: dict[tuple[str, str], FusionRule] = {}
        call = copy = 0.0
        for _ in range(_ROUNDS):
            call, copy = _joint(plain, saved, times_us)
            shares: dict[tuple[str, str], list[float]] = {}
            for pair in known:
                beyond = saved[pair] - call - copy * _joint_bytes(pair)
                within = min(times_us[spec] - call - copy * spec.activation_bytes for spec in pair)
                shares.setdefault(kind(pair), []).append(beyond / max(within, _LEAST * least[pair]))
            found = {
                name: FusionRule(name, statistics.median(all_) > alpha, statistics.median(all_), len(all_))
                for name, all_ in shares.items()
            }
            plain = [pair for pair in known if not found[kind(pair)].fused] or plain
            if found == rules:
                break
            rules = found
        return cls(rules, call, copy)

    def fuses(self, first: KernelSpec, second: KernelSpec) -> bool:
        """Whether the second operation runs within the first. Unknown kinds do not."""
        rule = self.rules.get(kind((first, second)))
        return rule is not None and rule.fused

    def saved_us(self, operations: Sequence[Kernel], times_us: Sequence[float]) -> float:
        """Microseconds by which a row of operations takes less than their sum, because some run within others.

        times_us: of each within a network. An operation is absorbed once; what is no KernelSpec is left alone.
        """
        saved, absorbed = 0.0, False
        pairs = zip(itertools.pairwise(operations), itertools.pairwise(times_us), strict=True)
        for (first, second), times in pairs:
            if absorbed or not (isinstance(first, KernelSpec) and isinstance(second, KernelSpec)):
                absorbed = False
                continue
            absorbed = _fits(first, second) and self.fuses(first, second)
            if absorbed:
                saved += min(self.rules[kind((first, second))].share, 1.0) * min(times)
        return saved

    def alone_us(self, kernel: Kernel) -> float:
        """Microseconds that a kernel timed alone takes more than within a network."""
        return self.call_us + self.copy_us_per_byte * kernel.activation_bytes


def _fits(first: KernelSpec, second: KernelSpec) -> bool:
    if first.batch != second.batch:
        return False
    if second.op == "linear":
        return first.out_channels * math.prod(first.output_size) == second.in_channels
    return (first.out_channels, *first.output_size) == (second.in_channels, second.height, second.width)


def _joint(plain: Sequence[Pair], saved: Mapping[Pair, float], times_us: Mapping[Kernel, float]) -> tuple[float, float]:
    """(call, copy per byte) that explain what pairs save that are not fused; relative to what the pairs take."""
    rows, values = [], []
    for pair in plain:
        weight = 1 / (times_us[pair[0]] + times_us[pair[1]])
        rows.append([weight, weight * _joint_bytes(pair)])
        values.append(weight * max(saved[pair], 0.0))
    call, copy = nnls(np.array(rows), np.array(values))[0]
    return float(call), float(copy)


def _joint_bytes(pair: Pair) -> float:
    """Bytes copied out of the first module and into the second."""
    first = pair[0]
    return 2.0 * _ITEM_BYTES * first.batch * first.out_channels * math.prod(first.output_size)
