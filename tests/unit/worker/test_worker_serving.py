"""A serving worker answers each request with the rung it names, refuses what it cannot do, and says why."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from worker_ladders import decoded, expected, inputs, make_plan, serving, with_rung

from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import TensorSpec
from tailorbird_agent.worker.serving import ServingWorker


def refusal(plan) -> WorkerError:
    """The error with which a plan is refused; the worker must be gone afterwards."""

    async def nothing(_: ServingWorker) -> None:
        return None

    with pytest.raises(WorkerError) as caught:
        serving(plan, nothing)
    return caught.value


def test_every_answer_belongs_to_its_own_request_and_to_the_rung_it_names(tmp_path) -> None:
    plan = make_plan(tmp_path)
    pins = [None, "r0", "r1", "r2"]

    async def many(worker: ServingWorker):
        calls = [
            worker.infer([inputs(seed).tobytes()], rung=pins[seed % 4], timeout_s=20.0)
            for seed in range(worker.capacity)
        ]
        return await asyncio.gather(*calls)

    for seed, answer in enumerate(serving(plan, many)):
        assert answer.rung == (pins[seed % 4] or "r2")
        np.testing.assert_allclose(decoded(answer.outputs[0]), expected(inputs(seed), int(answer.rung[1])), atol=1e-4)
        assert answer.wall_us > 0
        assert answer.cpu_us > 0
        assert answer.queue_us > 0
        assert answer.missed is None


def test_counters_tell_who_answered_and_what_was_late(tmp_path) -> None:
    async def use(worker: ServingWorker):
        request = [inputs().tobytes()]
        on_time = await worker.infer(request, slo_us=1e9, timeout_s=20.0)
        late = await worker.infer(request, slo_us=0.001, timeout_s=20.0)
        pinned = await worker.infer(request, rung="r0", timeout_s=20.0)
        return on_time, late, pinned, worker.stats

    on_time, late, pinned, stats = serving(make_plan(tmp_path), use)
    assert (on_time.missed, late.missed, pinned.missed) == (False, True, None)
    assert stats.rungs == {"r0": 1, "r1": 0, "r2": 2}
    assert (stats.requests, stats.misses, stats.switches, stats.current_rung) == (3, 1, 0, "r2")


def test_a_policy_moves_off_a_rung_that_cannot_be_on_time_and_says_why(tmp_path) -> None:
    plan = with_rung(make_plan(tmp_path, policy="two-channel", slo_us=1e9), 2, cpu_us=1e6)

    async def use(worker: ServingWorker):
        calm = await worker.infer([inputs().tobytes()], timeout_s=20.0)
        hurried = await worker.infer([inputs().tobytes()], slo_us=200_000.0, timeout_s=20.0)
        return calm, hurried, worker.stats, await worker.status()

    calm, hurried, stats, status = serving(plan, use)
    assert (calm.rung, calm.switch) == ("r2", None)
    assert hurried.switch is not None
    assert (hurried.switch.from_rung, hurried.switch.to_rung) == ("r2", hurried.rung)
    assert hurried.switch.cause in {"deadline", "speed", "waits"}
    assert hurried.switch.message.startswith(f"r2->{hurried.rung} ")
    assert all(isinstance(value, str) for value in hurried.switch.details.values())
    assert stats.switches == 1
    assert status.switches_timed == 1
    assert 0 < status.switch_p50_ns <= status.switch_p99_ns


def test_a_request_with_a_deadline_of_its_own_takes_a_smaller_rung_and_the_next_one_does_not(tmp_path) -> None:
    plan = with_rung(make_plan(tmp_path, policy="two-channel"), 2, cpu_us=1e6)

    async def use(worker: ServingWorker):
        request = [inputs().tobytes()]
        bound = await worker.infer(request, limit_us=200_000.0, timeout_s=20.0)
        free = await worker.infer(request, timeout_s=20.0)
        return bound, free, worker.stats.switches

    bound, free, switches = serving(plan, use)
    assert bound.rung in {"r0", "r1"}
    np.testing.assert_allclose(decoded(bound.outputs[0]), expected(inputs(), int(bound.rung[1])), atol=1e-4)
    assert (bound.switch, bound.missed) == (None, False)
    assert (free.rung, free.switch, free.missed, switches) == ("r2", None, None, 0)


def test_a_request_that_no_rung_can_answer_in_time_gets_the_smallest(tmp_path) -> None:
    plan = make_plan(tmp_path, policy="two-channel")
    for rung in range(3):
        plan = with_rung(plan, rung, cpu_us=1e6 * (rung + 1))

    async def use(worker: ServingWorker):
        return await worker.infer([inputs().tobytes()], limit_us=200_000.0, timeout_s=20.0)

    assert serving(plan, use).rung == "r0"


@pytest.mark.parametrize("rung", [None, "r1"])
def test_a_request_whose_own_deadline_passed_before_its_turn_is_refused_and_not_run(tmp_path, rung) -> None:
    async def use(worker: ServingWorker):
        with pytest.raises(WorkerError) as caught:
            await worker.infer([inputs().tobytes()], rung=rung, limit_us=1.0, timeout_s=20.0)
        return caught.value.reason, worker.stats.requests

    assert serving(make_plan(tmp_path), use) == ("DEADLINE", 0)


def test_a_pinned_rung_leaves_the_policy_alone(tmp_path) -> None:
    async def use(worker: ServingWorker):
        for _ in range(20):
            await worker.infer([inputs().tobytes()], rung="r0", slo_us=1.0, timeout_s=20.0)
        return await worker.infer([inputs().tobytes()], slo_us=1e9, timeout_s=20.0)

    answer = serving(make_plan(tmp_path, policy="two-channel"), use)
    assert (answer.rung, answer.switch) == ("r2", None)


def test_the_policy_can_be_changed_while_serving(tmp_path) -> None:
    async def use(worker: ServingWorker):
        await worker.set_policy("static:r1", 1e9)
        answer = await worker.infer([inputs().tobytes()], timeout_s=20.0)
        with pytest.raises(ValueError, match=r"unknown policy 'best'.*static:r2"):
            await worker.set_policy("best", None)
        return answer, worker.stats, await worker.infer([inputs().tobytes()], timeout_s=20.0)

    answer, stats, after = serving(make_plan(tmp_path), use)
    assert (answer.rung, answer.missed, after.rung) == ("r1", False, "r1")
    assert (stats.policy, stats.current_rung) == ("static:r1", "r1")


def test_memory_pressure_caps_the_ladder(tmp_path) -> None:
    async def use(worker: ServingWorker):
        await worker.set_caps({"memory_some_avg10_percent": 40.0, "battery_percent": None})
        return await worker.infer([inputs().tobytes()], timeout_s=20.0)

    answer = serving(make_plan(tmp_path), use)
    assert answer.rung == "r1"
    assert answer.switch is not None
    assert answer.switch.cause == "memory"


def test_bad_requests_are_refused_and_good_ones_still_answered(tmp_path) -> None:
    async def use(worker: ServingWorker):
        reasons = []
        good = [inputs().tobytes()]
        for request, rung in [([b"short"], None), ([], None), (good * 2, None), (good, "r9")]:
            with pytest.raises(WorkerError) as caught:
                await worker.infer(request, rung=rung, timeout_s=20.0)
            reasons.append(caught.value.reason)
        return reasons, await worker.infer([memoryview(inputs())], timeout_s=20.0)

    reasons, answer = serving(make_plan(tmp_path), use)
    assert reasons == ["INPUT_INVALID", "INPUT_INVALID", "INPUT_INVALID", "RUNG_NOT_FOUND"]
    np.testing.assert_allclose(decoded(answer.outputs[0]), expected(inputs(), 2), atol=1e-4)


def test_a_full_queue_refuses_and_then_answers_everything_it_took(tmp_path) -> None:
    async def use(worker: ServingWorker):
        request = [inputs().tobytes()]
        os.kill(worker.pid, signal.SIGSTOP)
        slots = worker.capacity
        taken = [asyncio.ensure_future(worker.infer(request, timeout_s=20.0)) for _ in range(slots)]
        await asyncio.sleep(0)
        assert worker.in_flight == slots
        with pytest.raises(WorkerError) as caught:
            await worker.infer(request, timeout_s=20.0)
        os.kill(worker.pid, signal.SIGCONT)
        return caught.value.reason, await asyncio.gather(*taken), slots

    reason, answers, slots = serving(make_plan(tmp_path), use)
    assert reason == "WORKER_BUSY"
    assert len(answers) == slots


def test_a_request_whose_time_is_over_is_given_up_and_never_run(tmp_path) -> None:
    async def use(worker: ServingWorker):
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError) as caught:
            await worker.infer([inputs().tobytes()], timeout_s=0.02)
        os.kill(worker.pid, signal.SIGCONT)
        after = await worker.infer([inputs(5).tobytes()], timeout_s=20.0)
        return caught.value.reason, after, worker.stats.requests

    reason, after, requests = serving(make_plan(tmp_path), use)
    assert reason == "DEADLINE"
    assert requests == 1
    np.testing.assert_allclose(decoded(after.outputs[0]), expected(inputs(5), 2), atol=1e-4)


def test_a_caller_that_gives_up_does_not_disturb_the_next(tmp_path) -> None:
    async def use(worker: ServingWorker):
        for _ in range(3 * worker.capacity):
            call = asyncio.ensure_future(worker.infer([inputs().tobytes()], timeout_s=20.0))
            await asyncio.sleep(0)
            call.cancel()
            await worker.infer([inputs(1).tobytes()], timeout_s=20.0)
        return await worker.infer([inputs(2).tobytes()], timeout_s=20.0)

    answer = serving(make_plan(tmp_path), use)
    np.testing.assert_allclose(decoded(answer.outputs[0]), expected(inputs(2), 2), atol=1e-4)


def test_draining_answers_what_is_in_flight_and_takes_nothing_new(tmp_path) -> None:
    async def use(worker: ServingWorker):
        calls = [asyncio.ensure_future(worker.infer([inputs().tobytes()], timeout_s=20.0)) for _ in range(8)]
        await asyncio.sleep(0)
        drained = asyncio.ensure_future(worker.drain(20.0))
        await asyncio.sleep(0)
        with pytest.raises(WorkerError) as caught:
            await worker.infer([inputs().tobytes()], timeout_s=20.0)
        await drained
        return caught.value.reason, [call.result().rung for call in calls]

    assert serving(make_plan(tmp_path), use) == ("WORKER_BUSY", ["r2"] * 8)


def test_stopping_twice_is_no_error_and_later_requests_say_so(tmp_path) -> None:
    async def use(worker: ServingWorker):
        await worker.stop()
        await worker.stop()
        with pytest.raises(WorkerError) as caught:
            await worker.infer([inputs().tobytes()], timeout_s=20.0)
        return worker.exited.result(), caught.value

    status, error = serving(make_plan(tmp_path), use)
    assert status == 0
    assert error.reason == "WORKER_DIED"
    assert "was stopped" in error.message


def test_how_each_rung_came_up_and_how_the_worker_is_confined_is_reported(tmp_path) -> None:
    async def use(worker: ServingWorker):
        return worker.checks, worker.sandbox, await worker.status()

    checks, sandbox, status = serving(make_plan(tmp_path), use)
    assert [check.rung for check in checks] == ["r0", "r1", "r2"]
    assert all(check.load_us > 0 and check.first_us > 0 and check.golden_max_abs_diff <= 1e-4 for check in checks)
    assert {"own-session", "rlimits", "no-new-privs", "death-signal"} <= set(sandbox)
    assert 10e6 < status.rss_bytes < 200e6


def test_a_rung_that_disagrees_with_its_golden_outputs_is_refused_with_figures(tmp_path) -> None:
    plan = make_plan(tmp_path)
    golden = [inputs(seed) for seed in range(4)]
    outputs = {f"output.{k}.y": expected(x, 1) for k, x in enumerate(golden)}
    outputs["output.3.y"] = outputs["output.3.y"] + np.float32(0.5)
    tensorfile.write(tmp_path / "golden1", outputs)
    error = refusal(plan)
    assert error.reason == "GOLDEN_MISMATCH"
    assert "rung r1, golden input 3, output y: max abs diff 0.5" in error.message


def test_not_a_number_never_passes_the_golden_check(tmp_path) -> None:
    plan = make_plan(tmp_path)
    tensorfile.write(tmp_path / "golden0", {f"output.{k}.y": np.full((1, 4), np.nan, np.float32) for k in range(4)})
    assert refusal(plan).reason == "GOLDEN_MISMATCH"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"runtime": "onnx"}, "RUNTIME_MISSING", "no runtime 'onnx'"),
        ({"runtime": "tvm"}, "RUNTIME_MISSING", "TVM runtime library is absent"),
        ({"runtime": "litert"}, "MODULE_INVALID", "is not a .tflite file"),
        ({"module": "absent"}, "MODULE_INVALID", "not a tensor file"),
        ({"module": "golden0"}, "MODULE_INVALID", "not a reference module"),
        ({"golden": "inputs"}, "MODULE_INVALID", "lacks the golden tensor output.0.y"),
    ],
)
def test_a_ladder_with_one_bad_rung_does_not_come_up(tmp_path, change, reason, words) -> None:
    plan = make_plan(tmp_path)
    error = refusal(
        with_rung(plan, 1, **{key: value if key == "runtime" else tmp_path / value for key, value in change.items()})
    )
    assert error.reason == reason
    assert words in error.message


def test_a_module_with_another_signature_than_its_plan_is_refused(tmp_path) -> None:
    plan = replace(make_plan(tmp_path), outputs=(TensorSpec("y", "FP32", (1, 5)),))
    error = refusal(plan)
    assert error.reason == "MODULE_INVALID"
    assert "(1, 4)" in error.message
    assert "(1, 5)" in error.message


def test_an_unknown_policy_is_refused_at_the_start(tmp_path) -> None:
    error = refusal(make_plan(tmp_path, policy="clever"))
    assert error.reason == "POLICY_UNKNOWN"
    assert "two-channel" in error.message


def test_the_daemons_side_imports_no_numpy_and_no_runtime() -> None:
    code = (
        "import sys, tailorbird_agent.worker.serving, tailorbird_agent.worker.measuring, tailorbird_agent.runtimes\n"
        "print(tailorbird_agent.runtimes.available())\n"
        "print(sorted({'numpy', 'tvm_ffi', 'ai_edge_litert', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_cap_that_changes_is_told_once_with_the_reading_behind_it(tmp_path) -> None:
    async def use(worker: ServingWorker):
        short = {"memory_some_avg10_percent": 40.0, "battery_percent": None}
        return await worker.set_caps({}), await worker.set_caps(short), await worker.set_caps(short)

    calm, capped, again = serving(make_plan(tmp_path), use)
    assert (calm, again) == (None, None)
    assert (capped.kind, capped.message) == ("cap", "memory allows rungs up to r1, before up to r2")
    assert capped.details == {
        "cap": "r1",
        "cap_before": "r2",
        "cause": "memory",
        "memory_some_avg10_percent": "40.0",
    }


def test_a_deadline_nobody_can_meet_is_told_once_and_so_is_its_end(tmp_path) -> None:
    async def use(worker: ServingWorker):
        hopeless = [await worker.infer([inputs().tobytes()], slo_us=1.0, timeout_s=20.0) for _ in range(30)]
        pinned = await worker.infer([inputs().tobytes()], slo_us=1.0, rung="r0", timeout_s=20.0)
        hopeful = [await worker.infer([inputs().tobytes()], slo_us=1e9, timeout_s=20.0) for _ in range(30)]
        return [[answer.notice for answer in each if answer.notice] for each in (hopeless, [pinned], hopeful)]

    (cannot,), none, (can,) = serving(make_plan(tmp_path, policy="two-channel"), use)
    assert none == []
    assert (cannot.kind, can.kind) == ("infeasible", "infeasible")
    assert cannot.message == "the smallest rung, r0, cannot meet its deadline: 0.001 ms"
    assert (cannot.details["feasible"], can.details["feasible"]) == ("false", "true")
    assert float(cannot.details["p_on_time"]) < 0.5 < float(can.details["p_on_time"])
