"""Protocols warm up until things settle, repeat short calls, and stop by rule. Time is the test's own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird_agent.bench.protocol import MAX_SAMPLES, SAMPLE_FLOOR_US, time_call, warm_up
from tailorbird_agent.bench.stopwatch import CriticalPathStopwatch, ThreadStopwatch
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

    def stop(self) -> tuple[float, float]:
        spent = self.now_us - self._started_us
        return 2.0 * spent, spent


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
    spent_ms = sum(samples.wall_us) * samples.number / 1e3
    assert samples.cpu_us == pytest.approx([call_us] * len(samples.cpu_us), rel=1e-3)
    assert samples.wall_us == pytest.approx([2 * call_us] * len(samples.wall_us), rel=1e-3)
    assert samples.number * call_us >= SAMPLE_FLOOR_US * 0.999
    assert len(samples.cpu_us) <= MAX_SAMPLES
    done = len(samples.cpu_us) >= min_runs and spent_ms >= min_ms * 0.999
    assert done or spent_ms >= protocol.max_time_ms * 0.999 or len(samples.cpu_us) == MAX_SAMPLES


def test_short_calls_are_repeated_and_long_ones_are_not() -> None:
    protocol = Protocol("kernel", 20, 50.0, 2000.0)
    assert time_call((scene := Scene(itertools.repeat(2.0))).call, protocol, scene).number == 50
    assert time_call((scene := Scene(itertools.repeat(500.0))).call, protocol, scene).number == 1


def test_a_long_protocol_repeats_more_so_that_its_samples_cover_it() -> None:
    protocol = Protocol("standard", 100, 5000.0, 30000.0)
    samples = time_call((scene := Scene(itertools.repeat(100.0))).call, protocol, scene)
    assert samples.number == 25
    assert sum(samples.wall_us) * samples.number >= 5e6


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
    wall_us, cpu_us = stopwatch.stop()
    assert 100.0 < cpu_us <= wall_us + 1.0
