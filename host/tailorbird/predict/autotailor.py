"""AutoTailor's latency predictor as published, for comparison (Liu et al. 2025, arXiv 2511.22355).

A table of single operations measured on the device; operation types below a tenth of the network's summed time are
left out; of two operations in a row the cheaper is dropped where timing the pair says that they are fused,

    T1 + T2 - T12 > 0.8 * min(T1, T2) + variance

and the rest is summed. Nothing is calibrated on whole subnets. Times enter the rule in milliseconds, as theirs do.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tailorbird.profile.fusion import Pair, adjacent, kind, unfused
from tailorbird.profile.table import KernelTable
from tailorbird.types import Config, KernelSpec

_DOMINANT: Final = 0.1
_ALPHA: Final = 0.8
_MAD_TO_DEVIATION: Final = 1.4826  # of a normal distribution


class AutoTailor:
    """Learning-free predictor of one SuperNet on one device.

    kernels_of: kernels of a subnet, which are taken apart into operations; table: times of single operations; pairs_us:
    times of two operations in one module; full: the configuration whose shares decide which operations are dominant.
    Raises ValueError when an operation of the full network was not measured.
    """

    def __init__(
        self,
        table: KernelTable,
        pairs_us: Mapping[Pair, float],
        kernels_of: Callable[[Config], Sequence[KernelSpec]],
        full: Config | None = None,
    ) -> None:
        self._times_us = table.times_us
        self._kernels_of = kernels_of
        self.fused = _fused_kinds(table, pairs_us)
        self.dominant = self._dominant(unfused(kernels_of(full or Config())))

    def predict_us(self, config: Config) -> float:
        """Microseconds per inference. Raises ValueError for an operation that was not measured."""
        operations = unfused(self._kernels_of(config))
        absorbed = {
            index + (self._time_us(pair[1]) < self._time_us(pair[0]))
            for index, pair in enumerate(_in_a_row(operations))
            if pair and kind(pair) in self.fused
        }
        return sum(
            self._time_us(spec)
            for index, spec in enumerate(operations)
            if index not in absorbed and _type(spec) in self.dominant
        )

    def __call__(self, config: Config) -> float:
        """predict_us."""
        return self.predict_us(config)

    def _dominant(self, operations: Sequence[KernelSpec]) -> frozenset[str]:
        shares: dict[str, float] = {}
        for spec in operations:
            shares[_type(spec)] = shares.get(_type(spec), 0.0) + self._time_us(spec)
        least = _DOMINANT * sum(shares.values())
        return frozenset(name for name, share in shares.items() if share >= least)

    def _time_us(self, spec: KernelSpec) -> float:
        if spec not in self._times_us:
            raise ValueError(f"{spec.label} is not in the table of operations")
        return self._times_us[spec]


def _fused_kinds(table: KernelTable, pairs_us: Mapping[Pair, float]) -> frozenset[tuple[str, str]]:
    verdicts: dict[tuple[str, str], list[bool]] = {}
    for pair, together_us in pairs_us.items():
        if pair[0] in table.times and pair[1] in table.times:
            first, second = (table.times[spec] for spec in pair)
            saved_ms = (first.cpu_us + second.cpu_us - together_us) / 1e3
            variance = sum((_MAD_TO_DEVIATION * time.mad_us / 1e3) ** 2 for time in (first, second))
            limit_ms = _ALPHA * min(first.cpu_us, second.cpu_us) / 1e3 + variance
            verdicts.setdefault(kind(pair), []).append(saved_ms > limit_ms)
    return frozenset(name for name, found in verdicts.items() if statistics.fmean(found) > 0.5)


def _in_a_row(operations: Sequence[KernelSpec]) -> list[Pair | None]:
    """Each operation with its follower, None where the follower takes something else."""
    return [next(iter(adjacent(operations[index : index + 2])), None) for index in range(len(operations) - 1)]


def _type(spec: KernelSpec) -> str:
    return spec.activation if spec.op == "activation" else spec.op
