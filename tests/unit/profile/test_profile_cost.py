"""What profiling cost, and what it is compared with."""

from __future__ import annotations

import dataclasses

import pytest

from tailorbird.profile import KernelPlan, KernelTable, KernelTime, ProfileCost
from tailorbird.types import KernelSpec, Verdict

SPECS = tuple(KernelSpec("conv2d", 8, width, 16, 16, (3, 3)) for width in (8, 16, 24, 32))
PLAN = KernelPlan(SPECS, reachable=5, subnets=0, exact=True, entries=40)
TABLE = KernelTable("d", "litert", {spec: KernelTime(9.0, 0.1, Verdict.OK) for spec in SPECS}, {}, seconds=2.0)


def test_seconds_are_of_listing_kernels_probes_and_subnets():
    cost = ProfileCost.of(PLAN, TABLE, [1.0, 3.0], operations=30, listing_s=0.5, probes_s=1.5)
    assert cost.seconds == pytest.approx(0.5 + 2.0 + 1.5 + 4.0)
    assert (cost.kernels, cost.reachable, cost.subnets, cost.subnet_s) == (4, 5, 2, 2.0)


def test_savings_are_ratios_of_what_others_would_have_measured():
    cost = ProfileCost.of(PLAN, TABLE, [1.0, 3.0], operations=30, listing_s=2.0)
    assert cost.saving_end_to_end(100) == pytest.approx(100 * 2.0 / 8.0)
    assert cost.saving_without_deduplication(100) == pytest.approx(100 * 30 * 0.5 / 8.0)
    assert cost.saving_by_place == pytest.approx(40 * 0.5 / 8.0)
    assert "4 of 5 kernels and 2 subnets in 8.0 s; measuring 2,000 subnets would take 500 times" in cost.words()


def test_nothing_measured_is_no_saving_and_no_error():
    cost = ProfileCost.of(PLAN, dataclasses.replace(TABLE, times={}, seconds=0.0), [], operations=0, listing_s=0.0)
    assert cost.saving_end_to_end() == cost.saving_without_deduplication() == cost.saving_by_place == 0.0
    assert cost.words() == "0 of 5 kernels and 0 subnets in 0.0 s"
