"""Which donors come first: near shapes, near boards, good schedules, kernels with the same stride and window."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tailorbird.db import Donor
from tailorbird.tune.donors import device_distance, rank, shape_distance
from tailorbird.tune.traces import cut, decisions_in
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

ZEN = DeviceClass("x86_64-linux-gnu", "znver4", 1, "EPYC", 2, ("avx512f",), (32768, 1 << 20, 0))
SSE = replace(ZEN, llvm_cpu="nehalem", isa_features=("sse4_2",))
AVX = replace(ZEN, llvm_cpu="core-avx2", isa_features=("avx2",))
PI = DeviceClass("aarch64-linux-gnu", "cortex-a72", 1, "", 4, ("asimd",), (32768, 1 << 20, 0))


def workload(key: str, shape: tuple[int, ...], flops: float = 1e6) -> Workload:
    return Workload(key, "", "conv", shape, flops)


def donor(key: str, shape: tuple[int, ...], us: float = 10.0, boards: DeviceClass = ZEN) -> Donor:
    record = ScheduleRecord("t", key, "conv", shape, 0, "[]", "[[],[]]", us)
    return Donor(workload(key, shape), boards, record)


def names(donors: list[Donor]) -> list[str]:
    return [d.workload.key for d in donors]


def test_shapes_are_compared_in_octaves():
    assert shape_distance((1, 8, 8), (1, 16, 4)) == 2.0
    assert shape_distance((1, 8), (1, 8)) == 0.0
    assert shape_distance((1, 8), (1, 8, 1)) == float("inf")


def test_devices_differ_by_vectors_threads_caches_and_machine():
    assert device_distance(ZEN, ZEN) == 0.0
    assert device_distance(ZEN, AVX) == pytest.approx(1.0)
    assert device_distance(ZEN, SSE) == pytest.approx(2.0)
    assert device_distance(ZEN, replace(ZEN, threads=2)) == 1.0
    assert device_distance(ZEN, replace(ZEN, caches=(65536, 1 << 20, 0))) == 0.5
    assert device_distance(SSE, PI) > device_distance(SSE, AVX)
    unknown = DeviceClass("x86_64-linux-gnu", "skylake")
    assert device_distance(ZEN, unknown) == device_distance(unknown, ZEN) > 0


def test_near_shapes_come_first_and_other_loops_never():
    donors = [donor("far", (1, 64)), donor("near", (1, 16)), donor("other", (1, 8, 8))]
    assert names(rank([donors], workload("me", (1, 8)), ZEN, 3)) == ["near", "far"]


def test_the_same_boards_beat_foreign_ones_of_equal_shape():
    donors = [donor("pi", (1, 8), boards=PI), donor("sse", (1, 8), boards=SSE), donor("zen", (1, 8))]
    assert names(rank([donors], workload("me", (1, 8)), ZEN, 2)) == ["zen", "sse"]


def test_a_slow_donor_falls_behind_a_good_one_that_is_little_farther():
    donors = [donor("slow", (1, 8), us=80.0), donor("good", (1, 16), us=10.0)]
    assert names(rank([donors], workload("me", (1, 8)), ZEN, 2)) == ["good", "slow"]


def test_quality_is_judged_among_the_donors_own_boards():
    donors = [donor("pi", (1, 8), us=1000.0, boards=PI), donor("zen", (1, 4096), us=1.0)]
    assert names(rank([donors], workload("me", (1, 8)), ZEN, 1)) == ["pi"]


def test_looser_patterns_cost_and_nothing_is_listed_twice():
    strict, loose = donor("strict", (1, 16)), donor("loose", (1, 16))
    assert names(rank([[strict], [strict, loose]], workload("me", (1, 8)), ZEN, 9)) == ["strict", "loose"]


def test_a_kernel_is_no_donor_to_itself_but_its_twin_on_other_boards_is():
    donors = [donor("me", (1, 8)), donor("me", (1, 8), boards=SSE)]
    assert [d.device_class for d in rank([donors], workload("me", (1, 8)), ZEN, 9)] == [SSE]


def test_a_trace_is_cut_where_the_postprocessing_begins():
    steps = [["GetSBlock", [], ["conv", "main"], ["b0"]], ["SamplePerfectTile", ["l"], [2, 64], ["v"]]]
    after = [["EnterPostproc", [], [], []], ["SampleCategorical", [], [[0]], ["w"]]]
    text = cut([steps + after, [[1, [4, 16]], [3, 0]]])
    assert decisions_in(text) == [[4, 16]]
    assert cut([steps, [[1, [4, 16]]]]) == text
    for broken in ([steps], "x", [steps, None], {}):
        with pytest.raises(ValueError, match="not a trace"):
            cut(broken)
