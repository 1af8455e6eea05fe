"""The first schedules of kernels, on a made-up device: a kernel's time is a known function of its decisions."""

from __future__ import annotations

import json
import math

from tailorbird.tune.opening import Opening, Pick
from tailorbird.tune.space import Choice, KernelSpace, VectorUnit
from tailorbird.types.schedule import ScheduleRecord

UNIT = VectorUnit(16, 32)


def space(name: str, width: int, channels: int, flops: float = 1e7) -> KernelSpace:
    tiles = [Choice("tile", extent, 4) for extent in (1, width, width, channels)]
    sketch = (*tiles, Choice("tile", 64, 2), Choice("category", parts=3), Choice("location"))
    return KernelSpace(name, f"0x{name}", "conv", flops, (sketch,))


def opening_of(*spaces: KernelSpace, seed: int = 0) -> Opening:
    return Opening(spaces, UNIT, seed)


def picked(opening: Opening, kernel: KernelSpace, count: int) -> list[Pick]:
    picks = [opening.pick(kernel.workload) for _ in range(count)]
    return [pick for pick in picks if pick is not None]


def record(kernel: KernelSpace, sketch: int, decisions, us: float | None, error: str = "") -> ScheduleRecord:
    text = json.dumps(decisions)
    return ScheduleRecord("host", kernel.workload, "conv", kernel.extents, sketch, text, "[]", us, error=error)


def made_up_us(kernel: KernelSpace, decisions) -> float:
    """Best with 16 channels x 16 pixels in the innermost tile."""
    if not decisions:
        return 40.0 * kernel.flops / 1e5
    pixels = math.prod(tile[3] for tile in decisions[:3])
    return kernel.flops / 1e5 * (1 + abs(math.log2(decisions[3][3] / 16)) + abs(math.log2(pixels / 16)))


def run(opening: Opening, kernel: KernelSpace, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        for pick in picked(opening, kernel, 8):
            times.append(made_up_us(kernel, pick.decisions))
            opening.learn(record(kernel, pick.sketch, pick.decisions, times[-1]))
    return times


def test_nothing_is_picked_twice_and_an_exhausted_space_ends() -> None:
    tiny = KernelSpace("tiny", "0xtiny", "copy", 0.0, ((Choice("category", parts=3),),))
    picks = picked(opening_of(tiny), tiny, 50)
    assert len({pick.key for pick in picks}) == len(picks) <= 3


def test_it_finds_the_fast_tile() -> None:
    kernel = space("k", 32, 64)
    times = run(opening_of(kernel), kernel, 12)
    assert min(times) == made_up_us(kernel, [(1,) * 4, (1,) * 4, (1, 1, 1, 16), (1, 1, 1, 16)])


def test_a_siblings_best_decisions_are_tried_first_on_a_new_kernel() -> None:
    known, new = space("known", 32, 64), space("new", 32, 32)
    opening = opening_of(new)
    best = ((1, 1, 1, 1), (1, 8, 4, 1), (1, 2, 1, 16), (4, 1, 1, 16), (16, 4), 1, -1)
    opening.learn(record(known, 0, best, 10.0))
    (pick,) = picked(opening, new, 1)
    assert pick.decisions == ((1, 1, 1, 1), (1, 8, 4, 1), (1, 2, 1, 16), (2, 1, 1, 16), (16, 4), 1, -1)


def test_what_a_kernel_should_take_follows_the_best_of_its_class() -> None:
    one, other = space("one", 32, 64), space("other", 32, 32)
    opening = opening_of(one, other)
    before = opening.expected_us("0xother", other.flops)
    slow, fast = ((1, 1, 1, 1), (1, 8, 4, 1), (1, 2, 1, 16), (4, 1, 1, 16), (16, 4), 1, -1), 4.0 * before
    opening.learn(record(one, 0, slow, fast))
    assert opening.expected_us("0xother", other.flops) > before
    assert math.isclose(opening.expected_us("0xother", 2e7), 2.0 + 2 * fast)


def test_records_of_an_earlier_run_are_not_measured_again() -> None:
    kernel = space("k", 16, 32)
    picks = picked(opening_of(kernel, seed=3), kernel, 5)
    again = opening_of(kernel, seed=3)
    for pick in picks:
        again.learn(record(kernel, pick.sketch, pick.decisions, None, error="crashed"))
    assert not {pick.key for pick in picks} & {pick.key for pick in picked(again, kernel, 5)}


def test_a_seed_decides_everything() -> None:
    def trail(seed: int) -> list[float]:
        kernel = space("a", 32, 64)
        return run(opening_of(kernel, seed=seed), kernel, 4)

    assert trail(1) == trail(1)
    assert trail(1) != trail(2)
