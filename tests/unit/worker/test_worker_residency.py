"""The memory plan: what is kept, what goes first, and that a request never waits for more than it must."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from worker_ladders import decoded, expected, inputs, make_plan, serving

from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.ladder import RungLoader
from tailorbird_agent.worker.plan import WorkerStatus
from tailorbird_agent.worker.residency import Residency, needed
from tailorbird_agent.worker.serving import ServingWorker

MIB = 1 << 20


@pytest.mark.parametrize(
    ("held", "count", "rungs"),
    [(4, 5, (4, 3, 0)), (2, 5, (2, 1, 3, 0)), (0, 5, (0, 1)), (1, 5, (1, 0, 2)), (0, 1, (0,)), (1, 2, (1, 0))],
)
def test_the_rung_held_comes_first_then_its_neighbours_and_the_safe_one_is_always_there(held, count, rungs):
    assert needed(held, count) == rungs


def residency_of(folder, budget_bytes: int | None, loaded: tuple[int, ...], rungs: int = 6):
    """Real rungs of the reference runtime, 1 MiB each by their plan."""
    plan = make_plan(folder, rungs)
    loader = RungLoader(plan)

    def load(index: int):
        return loader.load(plan.rungs[index])

    return Residency([MIB] * rungs, load, budget_bytes, {index: load(index) for index in loaded})


def settle(residency) -> int:
    """Settle until nothing is to be done; how many steps that took."""
    steps = 0
    while residency.unsettled:
        residency.settle()
        steps += 1
    return steps


def test_what_stands_in_for_a_rung_is_the_largest_below_it(tmp_path) -> None:
    residency = residency_of(tmp_path, 3 * MIB, (0, 4, 5))
    assert [residency.at(index)[0] for index in range(6)] == [0, 0, 0, 0, 4, 5]


def test_a_jump_loads_the_wanted_rung_before_its_neighbours_and_lets_go_of_the_farthest_first(tmp_path) -> None:
    residency = residency_of(tmp_path, 4 * MIB, (0, 4, 5))
    residency.hold(2)
    seen = []
    while residency.unsettled:
        residency.settle()
        seen.append(residency.indices)
    assert seen[:2] == [(0, 4), (0,)]  # what goes, goes before more comes
    assert [sorted(set(b) - set(a)) for a, b in pairwise(seen[1:])] == [[2], [1], [3]]
    assert residency.indices == (0, 1, 2, 3)


def test_rungs_that_fit_the_budget_stay(tmp_path) -> None:
    residency = residency_of(tmp_path, 5 * MIB, (0, 4, 5))
    residency.hold(3)
    settle(residency)
    assert residency.indices == (0, 2, 3, 4, 5)
    assert residency.loads == 2


def test_without_a_budget_nothing_goes(tmp_path) -> None:
    residency = residency_of(tmp_path, None, (0, 1, 2, 3, 4, 5))
    for held in (0, 3, 5):
        residency.hold(held)
        assert not residency.unsettled


def test_the_needed_rungs_stay_however_small_the_budget(tmp_path) -> None:
    residency = residency_of(tmp_path, 1, (0, 4, 5))
    residency.hold(2)
    settle(residency)
    assert residency.indices == (0, 1, 2, 3)
    assert settle(residency) == 0


async def settled(worker: ServingWorker, wanted: Callable[[WorkerStatus], bool]) -> WorkerStatus:
    """The worker once it is as wanted: it settles between requests, so a question may come before it has."""
    status = await worker.status()
    for _ in range(5000):
        if wanted(status):
            break
        status = await worker.status()
    return status


def test_every_rung_of_a_ladder_too_large_for_memory_answers_rightly(tmp_path) -> None:
    plan = replace(make_plan(tmp_path, 6), memory_bytes=4 * MIB)

    async def use(worker: ServingWorker):
        before = await worker.status()
        answers = [
            await worker.infer([inputs(seed).tobytes()], rung=f"r{seed * 5 % 6}", timeout_s=20.0) for seed in range(24)
        ]
        return before, answers, await settled(worker, lambda status: len(status.resident) <= 4)

    before, answers, after = serving(plan, use)
    assert (before.resident, before.loads) == (("r0", "r3", "r4", "r5"), 0)
    for seed, answer in enumerate(answers):
        rung = seed * 5 % 6
        assert answer.rung == f"r{rung}"
        np.testing.assert_allclose(decoded(answer.outputs[0]), expected(inputs(seed), rung), atol=1e-4)
    assert after.loads > 0
    assert {"r0", "r4", "r5"} <= set(after.resident)
    assert len(after.resident) <= 4


def test_after_a_switch_far_away_the_smaller_rungs_answer_until_the_new_one_is_there(tmp_path) -> None:
    plan = replace(make_plan(tmp_path, 6, policy="static-large"), memory_bytes=3 * MIB)

    async def use(worker: ServingWorker):
        await worker.set_policy("static:r2", None)
        burst = await asyncio.gather(*(worker.infer([inputs(k).tobytes()], timeout_s=20.0) for k in range(20)))
        status = await settled(worker, lambda status: status.resident == ("r0", "r1", "r2", "r3"))
        return burst, await worker.infer([inputs().tobytes()], timeout_s=20.0), status

    burst, later, status = serving(plan, use)
    assert {answer.rung for answer in burst} <= {"r0", "r1", "r2"}
    for seed, answer in enumerate(burst):
        wanted = expected(inputs(seed), int(answer.rung[1]))
        np.testing.assert_allclose(decoded(answer.outputs[0]), wanted, atol=1e-4)
    assert later.rung == "r2"
    assert status.resident == ("r0", "r1", "r2", "r3")


def test_a_load_that_fails_is_tried_again_only_after_another_rung_was_held(tmp_path) -> None:
    residency = residency_of(tmp_path, 1, (0, 4, 5))
    module = tmp_path / "module2"
    good = module.read_bytes()
    module.write_bytes(b"gone bad")
    residency.hold(2)
    with pytest.raises(WorkerError):
        settle(residency)
    settle(residency)
    assert residency.indices == (0, 1, 3)
    module.write_bytes(good)
    assert not residency.unsettled
    residency.hold(1)
    settle(residency)
    assert residency.indices == (0, 1, 2)


def test_every_rung_is_verified_before_the_first_request_whether_it_stays_or_not(tmp_path) -> None:
    plan = replace(make_plan(tmp_path, 6), memory_bytes=3 * MIB)
    golden = tensorfile.read(plan.rungs[1].golden).tensors
    tensorfile.write(plan.rungs[1].golden, {name: np.array(value) + 1.0 for name, value in golden.items()})

    async def nothing(_: ServingWorker) -> None:
        return None

    with pytest.raises(WorkerError) as caught:
        serving(plan, nothing)
    assert caught.value.reason == "GOLDEN_MISMATCH"


def test_a_rung_whose_file_went_bad_fails_its_own_requests_and_smaller_ones_answer(tmp_path) -> None:
    plan = replace(make_plan(tmp_path, 6), memory_bytes=3 * MIB)

    async def use(worker: ServingWorker):
        plan.rungs[2].module.write_bytes(json.dumps({}).encode())
        with pytest.raises(WorkerError) as caught:
            await worker.infer([inputs().tobytes()], rung="r2", timeout_s=20.0)
        await worker.set_policy("static:r2", None)
        await worker.status()
        return caught.value.reason, await worker.infer([inputs().tobytes()], timeout_s=20.0)

    reason, answer = serving(plan, use)
    assert reason == "MODULE_INVALID"
    assert answer.rung in {"r0", "r1"}


def test_a_rung_admitted_stays_whatever_is_held_as_far_as_the_budget_goes(tmp_path) -> None:
    residency = residency_of(tmp_path, 4 * MIB, (0, 4, 5))
    residency.admit(1)
    residency.hold(4)
    settle(residency)
    assert residency.indices == (0, 1, 3, 4, 5)  # the needed ones alone fill the budget
    with pytest.raises(ValueError, match=f"take {6 * MIB} of {4 * MIB} bytes"):
        residency.admit(2)
    residency.restore()
    settle(residency)
    assert residency.indices == (0, 3, 4, 5)


def test_a_rung_dismissed_goes_and_a_smaller_one_stands_in_until_it_is_admitted(tmp_path) -> None:
    residency = residency_of(tmp_path, None, (0, 1, 2, 3, 4, 5))
    residency.dismiss(3)
    assert (residency.indices, residency.dismissed) == ((0, 1, 2, 4, 5), (3,))
    residency.hold(3)
    assert settle(residency) == 0
    assert residency.at(3)[0] == 2
    residency.admit(3)
    assert residency.at(3)[0] == 3
    assert residency.dismissed == ()


def test_what_was_dismissed_comes_back_when_the_plan_is_restored(tmp_path) -> None:
    residency = residency_of(tmp_path, None, (0, 1, 2, 3, 4, 5))
    residency.dismiss(1)
    residency.dismiss(3)
    residency.restore()
    assert settle(residency) == 2
    assert residency.indices == (0, 1, 2, 3, 4, 5)


def test_neither_the_safe_rung_nor_the_one_in_use_nor_what_stands_in_for_it_can_go(tmp_path) -> None:
    residency = residency_of(tmp_path, 3 * MIB, (0, 4, 5))
    residency.hold(3)
    residency.admit(2)
    for index, words in ((0, "safe"), (3, "in use"), (2, "in use")):
        with pytest.raises(ValueError, match=words):
            residency.dismiss(index)
    assert {0, 2} <= set(residency.indices)


def test_an_admission_that_does_not_load_changes_nothing(tmp_path) -> None:
    residency = residency_of(tmp_path, 6 * MIB, (0, 1, 2, 3, 4, 5))
    residency.dismiss(2)
    (tmp_path / "module2").write_bytes(b"gone bad")
    with pytest.raises(WorkerError):
        residency.admit(2)
    assert residency.dismissed == (2,)
    assert not residency.unsettled


def test_a_worker_with_little_memory_loads_what_fits_and_says_what_does_not(tmp_path) -> None:
    plan = replace(make_plan(tmp_path, 6), memory_bytes=4 * MIB)

    async def use(worker: ServingWorker):
        await worker.load("r1")
        with pytest.raises(WorkerError) as caught:
            await worker.load("r2")
        await worker.unload("r1")
        await worker.unload("r4")
        await worker.load("r2")
        status = await settled(worker, lambda status: "r4" not in status.resident)
        with pytest.raises(WorkerError) as pinned:
            await worker.infer([inputs().tobytes()], rung="r4", timeout_s=20.0)
        return caught.value.reason, pinned.value.reason, worker.unloaded, set(status.resident)

    seen = serving(plan, use)
    assert seen == ("RUNG_TOO_LARGE", "RUNG_UNLOADED", {"r1", "r4"}, {"r0", "r2", "r3", "r5"} & seen[3])
    assert {"r0", "r2", "r5"} <= seen[3]
