"""Rounds of measurements, and how far their median may be trusted."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.compile.litert.single_op import single_op_candidate
from tailorbird.device import Device, LocalAgent, Rounds, measure_rounds
from tailorbird.device.rounds import TOGETHER, in_groups
from tailorbird.types import KERNEL, Candidate, KernelSpec, Measurement, ModuleKind, Verdict


def candidate(label: str) -> Candidate:
    return Candidate(ModuleKind.LITERT_MODEL, label.encode(), (), label)


class Machine:
    """Takes what it is told for each module, with a spread from round to round."""

    def __init__(self, spread: float) -> None:
        self.rng = random.Random(0)
        self.spread = spread
        self.asked: list[list[str]] = []

    def __call__(self, some: Sequence[Candidate]) -> list[Measurement]:
        self.asked.append([each.label for each in some])
        return [self._once(each.label) for each in some]

    def _once(self, label: str) -> Measurement:
        if label == "broken":
            return Measurement(label, error="does not load")
        us = 100.0 * (1 + (self.spread if label == "wild" else 0.0) * self.rng.uniform(-1, 1))
        return Measurement(label, wall_us=(us,) * 3, cpu_us=(us,) * 3, verdict=Verdict.CONTENDED)


def test_what_settles_is_measured_as_seldom_as_allowed_and_what_does_not_goes_on():
    machine = Machine(0.1)
    calm, wild, broken = measure_rounds(machine, [candidate(name) for name in ("calm", "wild", "broken")])
    assert len(calm.rounds) == 11
    assert 11 < len(wild.rounds) <= 31
    assert len(broken.rounds) == 1
    assert broken.error == "does not load"
    assert len({tuple(order) for order in machine.asked[1:5]}) > 1, "the order is drawn anew in each round"
    assert wild.cpu_median_us == pytest.approx(100, rel=0.05)
    assert wild.verdicts == {Verdict.CONTENDED}


@pytest.mark.parametrize(("least", "most"), [(0, 5), (6, 5)])
def test_no_rounds_are_refused(least: int, most: int):
    with pytest.raises(ValueError, match="rounds"):
        measure_rounds(Machine(0.0), [candidate("calm")], least=least, most=most)


@settings(deadline=None)
@given(st.integers(5, 25))
def test_the_interval_holds_the_median_as_often_as_it_says(count: int):
    rng = random.Random(count)
    inside = 0
    for _ in range(400):
        values = [rng.lognormvariate(3.0, 0.5) for _ in range(count)]
        found = Rounds("", tuple(Measurement("", wall_us=(us,), cpu_us=(us,)) for us in values))
        low, high = found.interval_us
        inside += low <= 20.085537 <= high  # the distribution's median
    assert inside / 400 >= 0.86


def test_modules_are_timed_in_turns_and_one_that_fails_costs_no_other_its_time():
    asked: list[tuple[list[str], int]] = []

    def together(some: Sequence[Candidate], order: int) -> list[Measurement]:
        asked.append(([each.label for each in some], order))
        bad = any(each.label == "k3" for each in some)
        return [Measurement(e.label, error="k3: fails") if bad else Measurement(e.label, (1.0,), (1.0,)) for e in some]

    modules = [candidate(f"k{number}") for number in range(2 * TOGETHER + 1)]
    found = in_groups(together, seed=5)(modules)
    assert [measurement.label for measurement in found] == [each.label for each in modules]
    assert [measurement.label for measurement in found if not measurement.ok] == ["k3"]
    groups = [labels for labels, _ in asked if len(labels) > 1]
    assert [len(labels) for labels in groups] == [5, 6, 6]
    assert len({order for _, order in asked}) == len(asked), "every order is drawn anew"


def test_each_round_has_a_process_of_its_own(device: Device, agent: LocalAgent):
    kernel = single_op_candidate(KernelSpec("add", 8, 8, 8, 8))
    brief = dataclasses.replace(KERNEL, min_seconds=0.002, max_seconds=0.5)

    def workers() -> set[int]:
        return {child.pid for child in psutil.Process(agent.pid).children()}

    with device.lease() as lease:
        device.measure([kernel], brief, lease=lease)
        first = workers()
        device.measure([kernel], brief, lease=lease)
        assert workers() == first
        device.measure([kernel], brief, lease=lease, fresh_process=True)
        assert workers().isdisjoint(first)
        broken = dataclasses.replace(kernel, module=b"nonsense", label="broken")
        good, bad = device.measure_rounds([kernel, broken], brief, lease=lease, least=2, most=2)
    assert len(good.rounds) == 2
    assert not good.error
    assert bad.error
