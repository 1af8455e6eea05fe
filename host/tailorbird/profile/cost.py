"""What profiling cost, beside what other ways of knowing every subnet's latency would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.profile.plan import KernelPlan
from tailorbird.profile.table import KernelTable

#: Subnets that a search looks at, in the comparisons: measured one by one, or listed for a table of their operations.
SUBNETS = 2000


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """Seconds that profiling a device took, building, upload and warm-up included.

    kernels: distinct ones measured, of `reachable`; kernels_s: seconds of them; probes_s: of pairs of them, for fusion;
    listing_s: of finding out which kernels there are; subnets: whole ones measured, subnet_s: mean seconds of one;
    operations: in a subnet on average, rectifiers by themselves; entries: places in the network times the kernels at
    each, equal or not, 0 when unknown; throttled: kernels and subnets whose times are of a throttled device.
    """

    kernels: int
    reachable: int
    kernels_s: float
    probes_s: float
    listing_s: float
    subnets: int
    subnet_s: float
    operations: float
    entries: int
    throttled: int = 0

    @classmethod
    def of(
        cls,
        plan: KernelPlan,
        table: KernelTable,
        subnet_seconds: Sequence[float],
        *,
        operations: float,
        listing_s: float,
        probes_s: float = 0.0,
        throttled_subnets: int = 0,
    ) -> ProfileCost:
        """From what was planned and measured."""
        mean = sum(subnet_seconds) / len(subnet_seconds) if subnet_seconds else 0.0
        return cls(
            len(table.times),
            plan.reachable,
            table.seconds,
            probes_s,
            listing_s,
            len(subnet_seconds),
            mean,
            operations,
            plan.entries,
            table.throttled + throttled_subnets,
        )

    @property
    def seconds(self) -> float:
        """Everything together."""
        return self.listing_s + self.kernels_s + self.probes_s + self.subnets * self.subnet_s

    @property
    def kernel_s(self) -> float:
        """Mean seconds of a kernel."""
        return self.kernels_s / self.kernels if self.kernels else 0.0

    def saving_end_to_end(self, subnets: int = SUBNETS) -> float:
        """How many times dearer it is to measure so many subnets one by one."""
        return subnets * self.subnet_s / self.seconds if self.seconds else 0.0

    def saving_without_deduplication(self, subnets: int = SUBNETS) -> float:
        """How many times dearer a table is with an entry for every operation of every one of so many subnets.

        So AutoTailor (Liu et al. 2025, arXiv 2511.22355) lists a search space when it does not drop duplicates:
        architecture after architecture, all operations of each. An entry costs what a kernel costs.
        """
        return subnets * self.operations * self.kernel_s / self.seconds if self.seconds else 0.0

    @property
    def saving_by_place(self) -> float:
        """How many times dearer a table is with an entry for every place in the network and every kernel there."""
        return self.entries * self.kernel_s / self.seconds if self.seconds else 0.0

    def words(self) -> str:
        """One line for people."""
        spent = f"{self.kernels} of {self.reachable} kernels and {self.subnets} subnets in {self.seconds:.1f} s"
        if self.throttled:
            spent += f", {self.throttled} of them on a throttled device: profile again when it has cooled"
        if not self.subnets:
            return spent
        return (
            f"{spent}; measuring {SUBNETS:,} subnets would take {self.saving_end_to_end():.0f} times as long, a table "
            f"of all their operations {self.saving_without_deduplication():.0f} times"
        )
