"""The demo's model, data, burner and gate."""

import os
import time

import psutil
import pytest
import torch

from tailorbird.demo.burner import Burner
from tailorbird.demo.data import digits
from tailorbird.demo.model import make
from tailorbird.demo.pipeline import check_ladder
from tailorbird.demo.plan import BurstPlan
from tailorbird.demo.traffic import BurnerSchedule
from tailorbird.errors import GateError, TailorbirdError
from tailorbird.flow.serve import advantage, summarise
from tailorbird.flow.train import TrainingDocument
from tailorbird.supernet import elastic
from tailorbird.supernet.training import Recipe
from tailorbird.ui.run import Request


def test_the_network_is_of_the_promised_size():
    net = elastic(make().eval(), (torch.zeros(1, 1, 32, 32),))
    assert 20e6 <= net.macs() <= 40e6
    assert 100_000 <= net.params() <= 300_000


def test_digits_fall_into_three_splits_without_overlap():
    splits = digits()
    images = [{x.numpy().tobytes() for x in part[0]} for part in (splits.train, splits.validation, splits.test)]
    assert [len(part[1]) for part in (splits.train, splits.validation, splits.test)] == [997, 400, 400]
    assert len(images[0] & images[2]) + len(images[1] & images[2]) <= 2  # the bundled set holds a few twins


def test_burner_processes_keep_their_core_busy_and_are_gone_afterwards():
    core = min(os.sched_getaffinity(0))
    with Burner((core,)) as burner:
        burner.start(2, seconds=30.0)
        pids = [p.pid for p in burner.processes]
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            spent = [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]
            if min(spent) > 0.1 and all(psutil.Process(pid).cpu_affinity() == [core] for pid in pids):
                break
        assert min(spent) > 0.1
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_burner_ends_by_itself_when_its_time_is_over():
    with Burner() as burner:
        burner.start(1, seconds=0.1)
        assert burner.processes[0].wait(timeout=20) == 0


def test_the_schedule_follows_serving_time_and_remembers_what_happened():
    with BurnerSchedule([BurstPlan(0.2, 0.4, 1), BurstPlan(0.5, 0.6, 2)], 10.0, (min(os.sched_getaffinity(0)),)) as on:
        for now in (0.0, 1.9, 2.1, 3.9, 4.2, 5.1, 6.5, 10.0):
            on.tick(now)
        assert [(b.start_s, b.end_s, b.processes) for b in on.bursts()] == [(2.1, 4.2, 1), (5.1, 6.5, 2)]


@pytest.mark.parametrize("times", [[100.0, 900.0], [500.0, 1400.0]])
def test_a_ladder_that_makes_switching_theatre_is_refused(times):
    with pytest.raises(TailorbirdError) as caught:
        check_ladder(times)
    assert caught.value.exit_code == 1
    assert caught.value.reason == "LADDER_TOO_FAST"


def test_a_real_ladder_is_accepted():
    check_ladder([300.0, 600.0, 1000.0])


def test_training_that_costs_more_than_its_recipe_allows_fails_the_gate():
    def document(after: float) -> TrainingDocument:
        return TrainingDocument(
            task="classification",
            steps=1,
            images=1,
            seconds=1.0,
            rate=1.0,
            unit="images",
            stopped_by="steps",
            resumed_at=0,
            backed_off=0,
            update_kept=1.0,
            first_loss=1.0,
            last_loss=1.0,
            full_before=0.985,
            full_after=after,
            smallest_before=0.1,
            smallest_after=0.9,
            random_after=0.95,
            recipe=Recipe(max_drop=0.005),
        )

    document(0.980).check()
    with pytest.raises(GateError) as caught:
        document(0.9775).check()
    assert caught.value.exit_code == 3


def requests(lane: str, late: int, wrong: int, count: int = 100) -> list[Request]:
    return [Request(lane, 0.1 * k, "r0", 10.0 * k, k < late, k >= late + wrong) for k in range(count)]


def test_late_answers_are_worth_nothing_whether_right_or_wrong():
    lane = summarise("a", requests("a", late=20, wrong=10), {"r0": 0.9})
    assert lane.misses == 20
    assert lane.effective_accuracy == pytest.approx(0.70)
    assert lane.weighted_accuracy == pytest.approx(0.72)
    assert lane.p90_us == 890.0


def test_a_percentile_needs_enough_requests():
    assert summarise("a", requests("a", 0, 0, count=63), {}).p90_us is None


def test_lanes_are_compared_slot_by_slot():
    both = [*requests("a", 0, 0), *requests("b", 30, 0)]
    difference, half_width = advantage(both, "a", "b")
    assert difference == pytest.approx(0.3)
    assert 0 < half_width < 0.15
    assert advantage(both, "a", "a") == (0.0, 0.0)
