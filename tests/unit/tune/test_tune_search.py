"""The search on a made-up device: a kernel's time is a known function of its decisions."""

from __future__ import annotations

import json
import math
from pathlib import Path

from tailorbird.tune.search import KernelState, Search
from tailorbird.tune.space import DEFAULT_SKETCH, Choice, KernelSpace, VectorUnit
from tailorbird.types.schedule import ScheduleRecord

UNIT = VectorUnit(16, 32)


def space(name: str, width: int, channels: int, flops: float = 1e7) -> KernelSpace:
    tiles = [Choice("tile", extent, 4) for extent in (1, width, width, channels)]
    sketch = (*tiles, Choice("tile", 64, 2), Choice("category", parts=3), Choice("location"))
    return KernelSpace(name, f"0x{name}", "conv", flops, (sketch,))


def search_of(*spaces: KernelSpace, seed: int = 0) -> Search:
    return Search([KernelState(kernel, Path(kernel.name), 1) for kernel in spaces], UNIT, seed)


def record(kernel: KernelSpace, sketch: int, decisions, us: float | None, error: str = "") -> ScheduleRecord:
    text = json.dumps(decisions)
    return ScheduleRecord("host", kernel.workload, "conv", kernel.extents, sketch, text, "[]", us, error=error)


def made_up_us(kernel: KernelSpace, decisions) -> float:
    """Best with 16 channels x 16 pixels in the innermost tile."""
    if not decisions:
        return 40.0 * kernel.flops / 1e5
    pixels = math.prod(tile[3] for tile in decisions[:3])
    return kernel.flops / 1e5 * (1 + abs(math.log2(decisions[3][3] / 16)) + abs(math.log2(pixels / 16)))


def run(search: Search, rounds: int) -> None:
    for _ in range(rounds):
        for pick in search.propose(8):
            kernel = search.kernels[pick.workload].space
            search.learn(record(kernel, pick.sketch, pick.decisions, made_up_us(kernel, pick.decisions)))


def test_every_kernel_is_tried_once_before_any_is_tried_twice() -> None:
    kernels = [space(str(index), 16, 32, flops=10.0 ** (5 + index % 3)) for index in range(12)]
    picks = search_of(*kernels).propose(12)
    assert sorted(pick.workload for pick in picks) == sorted(kernel.workload for kernel in kernels)


def test_heavier_kernels_come_first() -> None:
    light, heavy = space("light", 16, 32, flops=1e6), space("heavy", 32, 64, flops=1e8)
    assert [pick.workload for pick in search_of(light, heavy).propose(2)] == ["0xheavy", "0xlight"]


def test_nothing_is_proposed_twice_and_an_exhausted_space_ends() -> None:
    tiny = KernelSpace("tiny", "0xtiny", "copy", 0.0, ((Choice("category", parts=3),),))
    search = search_of(tiny)
    picks = search.propose(50)
    assert len({pick.key for pick in picks}) == len(picks)
    assert {pick.sketch for pick in picks} == {DEFAULT_SKETCH, 0}
    assert len(picks) <= 4
    assert search.propose(5) == [] or len(picks) + len(search.propose(5)) <= 4


def test_the_search_finds_the_fast_tile() -> None:
    kernel = space("k", 32, 64)
    search = search_of(kernel)
    run(search, 12)
    assert search.kernels["0xk"].best_us == made_up_us(kernel, [(1,) * 4, (1,) * 4, (1, 1, 1, 16), (1, 1, 1, 16)])


def test_a_siblings_best_decisions_are_tried_first_on_a_new_kernel() -> None:
    known, new = space("known", 32, 64), space("new", 32, 32)
    search = search_of(new)
    best = ((1, 1, 1, 1), (1, 8, 4, 1), (1, 2, 1, 16), (4, 1, 1, 16), (16, 4), 1, -1)
    search.learn(record(known, 0, best, 10.0))
    pick = search.propose(1)[0]
    assert pick.decisions == ((1, 1, 1, 1), (1, 8, 4, 1), (1, 2, 1, 16), (2, 1, 1, 16), (16, 4), 1, -1)


def test_records_of_an_earlier_run_are_not_measured_again() -> None:
    kernel = space("k", 16, 32)
    first = search_of(kernel, seed=3)
    picks = first.propose(5)
    again = search_of(kernel, seed=3)
    for pick in picks:
        again.learn(record(kernel, pick.sketch, pick.decisions, None, error="crashed"))
    assert not {pick.key for pick in picks} & {pick.key for pick in again.propose(5)}
    assert again.kernels["0xk"].best_us is None


def test_a_seed_decides_everything() -> None:
    def trail(seed: int) -> list:
        search = search_of(space("a", 32, 64), space("b", 16, 128), seed=seed)
        run(search, 4)
        return [state.ranked for state in search.kernels.values()]

    assert trail(1) == trail(1)
    assert trail(1) != trail(2)
