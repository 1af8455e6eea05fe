"""Protocols warm up until things settle, repeat short calls, and stop by rule. Time is the test's own."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.bench.protocol import BATCH_US, MAX_SAMPLES, SAMPLE_FLOOR_US, time_call, time_calls, warm_up
from tailorbird_agent.bench.reference import Reference
from tailorbird_agent.bench.stopwatch import CriticalPathStopwatch, Lap, ThreadStopwatch
from tailorbird_agent.worker.plan import Protocol


class Scene:
    """A call that takes scripted times, and a stopwatch that reads them. Half of the wall time is waiting."""

    def __init__(self, cpu_us: Iterable[float]) -> None:
        self._script = iter(cpu_us)
        self.calls = 0
        self.now_us = 0.0

    def call(self) -> None:
        self.calls += 1
        self.now_us += next(self._script)

    def start(self) -> None:
        self._started_us = self.now_us

    def stop(self) -> Lap:
        spent = self.now_us - self._started_us
        return Lap(2.0 * spent, spent, 0.5 * spent)


@settings(deadline=None, max_examples=30)
@given(
    st.floats(0.5, 5e4),
    st.integers(1, 200),
    st.floats(1.0, 500.0),
    st.floats(1.0, 20.0),
)
def test_a_steady_call_is_timed_exactly_until_both_minima_hold(call_us, min_runs, min_ms, factor) -> None:
    protocol = Protocol("test", min_runs, min_ms, min_ms * factor)
    scene = Scene(itertools.repeat(call_us))
    samples = time_call(scene.call, protocol, scene)
    ran_ms = sum(samples.cpu_us) * samples.number / 1e3
    spent_ms = sum(samples.wall_us) * samples.number / 1e3
    assert samples.cpu_us == pytest.approx([call_us] * len(samples.cpu_us), rel=1e-3)
    assert samples.wall_us == pytest.approx([2 * call_us] * len(samples.wall_us), rel=1e-3)
    assert samples.number * call_us >= SAMPLE_FLOOR_US * 0.999
    assert len(samples.cpu_us) <= MAX_SAMPLES
    assert sum(samples.blocks) == len(samples.cpu_us) == len(samples.delay_us)
    done = len(samples.cpu_us) >= min_runs and ran_ms >= min_ms * 0.999
    assert samples.complete or not done
    assert done or spent_ms >= protocol.max_time_ms * 0.999 or len(samples.cpu_us) == MAX_SAMPLES


def test_short_calls_are_repeated_and_long_ones_are_not() -> None:
    protocol = Protocol("kernel", 20, 50.0, 2000.0)
    assert time_call((scene := Scene(itertools.repeat(2.0))).call, protocol, scene).number == 50
    assert time_call((scene := Scene(itertools.repeat(500.0))).call, protocol, scene).number == 1


def test_a_long_protocol_repeats_more_so_that_its_samples_cover_it() -> None:
    protocol = Protocol("standard", 100, 5000.0, 30000.0)
    samples = time_call((scene := Scene(itertools.repeat(100.0))).call, protocol, scene)
    assert samples.number == 38
    assert samples.complete
    assert sum(samples.cpu_us) * samples.number >= 5e6


def test_warm_up_goes_on_while_calls_get_faster_and_returns_the_settled_time() -> None:
    protocol = Protocol("kernel", 20, 50.0, 2000.0)
    falling = [1000.0 * 0.9**k for k in range(40)]
    scene = Scene(itertools.chain(falling, itertools.repeat(10.0)))
    assert warm_up(scene.call, protocol, scene) == 10.0
    assert scene.calls > 40


def test_warm_up_gives_up_on_a_call_that_never_settles() -> None:
    protocol = Protocol("kernel", 20, 50.0, 2000.0)
    scene = Scene(itertools.accumulate(itertools.repeat(1000.0)))
    warm_up(scene.call, protocol, scene)
    assert scene.now_us * 2 < 1e6 + 2 * 60_000


def test_a_call_longer_than_the_protocol_is_timed_once() -> None:
    protocol = Protocol("kernel", 20, 50.0, 2000.0)
    scene = Scene(itertools.repeat(3e6))
    assert len(time_call(scene.call, protocol, scene).cpu_us) == 1
    assert scene.calls == 2


@pytest.mark.parametrize("make", [ThreadStopwatch, CriticalPathStopwatch])
def test_work_costs_time_on_both_clocks_and_wall_time_is_the_longer(make) -> None:
    stopwatch = make()
    stopwatch.start()
    sum(range(200_000))
    lap = stopwatch.stop()
    assert 100.0 < lap.cpu_us <= lap.wall_us + 1.0
    assert lap.delay_us is None


@pytest.mark.parametrize("make", [ThreadStopwatch, CriticalPathStopwatch])
def test_waiting_for_a_cpu_is_told_where_the_kernel_tells(make) -> None:
    stopwatch = make(queueing=True)
    laps = []
    for _ in range(30):
        stopwatch.start()
        sum(range(200_000))
        laps.append(stopwatch.stop())
    if laps[0].delay_us is None:
        pytest.skip("this kernel keeps no scheduler statistics")
    assert all(lap.delay_us >= 0.0 for lap in laps)
    # The queue is read around the clocks: a wait between both readings is in the one and not in the other.
    assert any(lap.delay_us <= lap.wall_us - lap.cpu_us + 100.0 for lap in laps)


def test_the_device_is_looked_at_before_between_and_after_batches() -> None:
    protocol = Protocol("standard", 100, 5000.0, 30000.0)
    scene = Scene(itertools.repeat(1000.0))
    looks: list[float] = []
    time_call(scene.call, protocol, scene, lambda: looks.append(scene.now_us))
    assert len(looks) == 2 * 5000e3 / BATCH_US + 1  # it waits as long as it runs
    gaps = [2.0 * (after - before) for before, after in itertools.pairwise(looks)]
    assert gaps[:-1] == pytest.approx([BATCH_US] * (len(gaps) - 1), rel=0.01)
    assert 0.0 < gaps[-1] <= BATCH_US * 1.01


def test_calls_in_turns_share_every_round_in_an_order_drawn_anew() -> None:
    protocol = Protocol("quick", 20, 500.0, 10_000.0)
    scene = Scene(itertools.repeat(0.0))
    order: list[str] = []

    def arm(name: str, cpu_us: float):
        def call() -> None:
            order.append(name)
            scene.now_us += cpu_us

        return call

    fast, slow = time_calls([arm("fast", 100.0), arm("slow", 3000.0)], protocol, scene, draw=random.Random(1))
    assert len(fast.blocks) == len(slow.blocks) > 20
    assert fast.complete
    assert slow.complete
    assert fast.cpu_us == pytest.approx([100.0] * len(fast.cpu_us))
    assert slow.cpu_us == pytest.approx([3000.0] * len(slow.cpu_us))
    first = [names[0] for names in rounds(order, fast, slow)]
    assert 0.2 < first.count("fast") / len(first) < 0.8


def rounds(order: list[str], fast, slow) -> list[list[str]]:
    """Names in the order they came, round by round, warm-up left out."""
    sizes = [(a * fast.number, b * slow.number) for a, b in zip(fast.blocks, slow.blocks, strict=True)]
    timed = order[-sum(map(sum, sizes)) :]
    found = []
    for a, b in sizes:
        part, timed = timed[: a + b], timed[a + b :]
        names = [name for name, _ in itertools.groupby(part)]
        assert sorted(names) == ["fast", "slow"]
        found.append(names)
    return found


def test_what_does_not_reach_its_minima_says_so() -> None:
    protocol = Protocol("mlperf", 1024, 60_000.0, 300.0)
    scene = Scene(itertools.repeat(100_000.0))
    assert not time_call(scene.call, protocol, scene).complete


def test_the_reference_kernel_tells_how_far_the_device_is_from_its_usual_speed() -> None:
    pace_ns = [10_000]
    now_ns = [0]

    def work() -> None:
        now_ns[0] += pace_ns[0]

    reference = Reference(lambda: now_ns[0], work)
    assert reference.usual_us == 10.0
    assert reference.drift() == 0.0
    pace_ns[0] = 10_500
    assert reference.drift() == pytest.approx(0.05)
    pace_ns[0] = 10_000
    assert reference.drift() == 0.0
    assert reference.usual_us == 10.0


def test_the_reference_kernel_is_real_work() -> None:
    assert 0.5 < Reference().usual_us < 10_000.0
