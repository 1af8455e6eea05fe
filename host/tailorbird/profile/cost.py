"""What profiling cost, beside what two other ways of knowing every subnet's latency would have cost."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.profile.plan import KernelPlan
from tailorbird.profile.table import KernelTable


@dataclass(frozen=True, slots=True)
class ProfileCost:
    """Seconds spent on a device, and what stands against them.

    kernels: distinct ones measured; entries: places in the network times the shapes there, what a table holds that does
    not look for equal ones; subnet_s: mean cost of one whole subnet, of those measured; subnets: whole ones measured.
    """

    kernels: int
    kernels_s: float
    entries: int
    subnets: int
    subnet_s: float

    @classmethod
    def of(cls, plan: KernelPlan, table: KernelTable, subnet_seconds: list[float]) -> ProfileCost:
        """From what was planned and measured."""
        mean = sum(subnet_seconds) / len(subnet_seconds) if subnet_seconds else 0.0
        return cls(len(table.times), table.seconds, plan.entries, len(subnet_seconds), mean)

    @property
    def seconds(self) -> float:
        """Kernels and whole subnets together."""
        return self.kernels_s + self.subnets * self.subnet_s

    def saving_end_to_end(self, subnets: int = 2000) -> float:
        """How many times dearer measuring so many subnets as a whole is."""
        return subnets * self.subnet_s / self.seconds if self.seconds else 0.0

    @property
    def saving_without_deduplication(self) -> float:
        """How many times dearer a table with an entry for every place and shape is."""
        kernel_s = self.kernels_s / self.kernels if self.kernels else 0.0
        return self.entries * kernel_s / self.kernels_s if self.kernels_s else 0.0
