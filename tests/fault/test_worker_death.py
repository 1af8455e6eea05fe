"""A serving worker that dies, hangs or never comes up costs its own requests and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest
from worker_rigs import REQUEST, build_library, make_plan, wait_for_end

from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.plan import jsonable
from tailorbird_agent.worker.serving import ServingWorker


def start_failure(plan, timeout_s: float = 30.0) -> WorkerError:
    async def run() -> None:
        await ServingWorker.start(plan, timeout_s=timeout_s)

    with pytest.raises(WorkerError) as caught:
        asyncio.run(run())
    return caught.value


def test_all_requests_in_flight_fail_at_once_when_the_worker_is_killed(tmp_path) -> None:
    async def run():
        worker = await ServingWorker.start(make_plan(tmp_path), timeout_s=30.0)
        os.kill(worker.pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(worker.infer([REQUEST], timeout_s=60.0)) for _ in range(10)]
        await asyncio.sleep(0)
        os.kill(worker.pid, signal.SIGKILL)
        results = await asyncio.gather(*calls, return_exceptions=True)
        status = await worker.exited
        with pytest.raises(WorkerError) as later:
            await worker.infer([REQUEST], timeout_s=60.0)
        await worker.stop()
        return results, status, later.value

    results, status, later = asyncio.run(run())
    assert [(type(error), error.reason) for error in results] == [(WorkerError, "WORKER_DIED")] * 10
    assert "SIGKILL" in results[0].message
    assert status == -signal.SIGKILL
    assert later.reason == "WORKER_DIED"


def test_a_worker_that_hangs_is_killed_with_its_group_and_says_so(tmp_path) -> None:
    async def run():
        worker = await ServingWorker.start(make_plan(tmp_path), timeout_s=30.0, hang_timeout_s=0.2)
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError) as caught:
            await worker.infer([REQUEST], timeout_s=60.0)
        return caught.value, await worker.exited, worker.pid

    error, status, pid = asyncio.run(run())
    assert error.reason == "WORKER_TIMEOUT"
    assert "no answer for 0.2 s" in error.message
    assert status == -signal.SIGKILL
    assert wait_for_end(pid)


def test_an_idle_worker_is_not_mistaken_for_a_hanging_one(tmp_path) -> None:
    async def run():
        worker = await ServingWorker.start(make_plan(tmp_path), timeout_s=30.0, hang_timeout_s=0.05)
        first = await worker.infer([REQUEST], timeout_s=60.0)
        done, _ = await asyncio.wait([worker.exited], timeout=0.3)
        second = await worker.infer([REQUEST], timeout_s=60.0)
        await worker.stop()
        return done, first.rung, second.rung

    assert asyncio.run(run()) == (set(), "r0", "r0")


def test_a_module_that_crashes_while_loading_is_reported(tmp_path) -> None:
    library = build_library(tmp_path, "crash", "abort();")
    error = start_failure(make_plan(tmp_path, runtime="tvm", module=library))
    assert error.reason == "WORKER_DIED"
    assert "SIGABRT" in error.message


def test_a_module_that_hangs_while_loading_meets_the_start_deadline(tmp_path) -> None:
    library = build_library(tmp_path, "hang", "for (;;) {}")
    error = start_failure(make_plan(tmp_path, runtime="tvm", module=library), timeout_s=2.0)
    assert error.reason == "WORKER_TIMEOUT"
    assert "within 2 s" in error.message


def test_a_library_that_is_no_model_is_refused_without_harm(tmp_path) -> None:
    library = build_library(tmp_path, "empty", "")
    error = start_failure(make_plan(tmp_path, runtime="tvm", module=library))
    assert error.reason == "MODULE_INVALID"


def test_the_worker_dies_with_its_daemon(tmp_path) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(jsonable(make_plan(tmp_path))))
    daemon = textwrap.dedent(
        """
        import asyncio, json, sys
        from tailorbird_agent.worker.plan import ServePlan
        from tailorbird_agent.worker.serving import ServingWorker

        async def main():
            worker = await ServingWorker.start(ServePlan.from_json(json.load(open(sys.argv[1]))), timeout_s=30)
            print(worker.pid, flush=True)
            await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    command = [sys.executable, "-c", daemon, str(tmp_path / "plan.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker_pid = int(process.stdout.readline())
        process.kill()
    assert wait_for_end(worker_pid)


def test_a_control_call_waits_for_a_long_queue_but_not_for_a_hang(tmp_path) -> None:
    async def run():
        worker = await ServingWorker.start(make_plan(tmp_path), timeout_s=30.0, hang_timeout_s=0.2)
        await worker.set_caps({})
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerError) as caught:
            await worker.set_caps({})
        return caught.value, await worker.exited

    error, status = asyncio.run(run())
    assert error.reason == "WORKER_TIMEOUT"
    assert status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ("for (int i = 3; i < 64; i++) close(i); usleep(200000); _exit(3);", "WORKER_DIED", "exited with status 3"),
        ("for (int i = 3; i < 64; i++) close(i); for (;;) pause();", "WORKER_TIMEOUT", "closed its channel"),
    ],
)
def test_a_worker_that_loses_its_channel_is_told_from_one_that_was_killed(tmp_path, body, reason, words) -> None:
    library = build_library(tmp_path, "closing", body)
    error = start_failure(make_plan(tmp_path, runtime="tvm", module=library))
    assert (error.reason, words in error.message) == (reason, True), error.message


def test_a_worker_that_dies_before_it_leads_a_group_is_still_reaped(tmp_path, monkeypatch) -> None:
    def no_such_group(group: int, number: int) -> None:
        raise ProcessLookupError(f"no group {group} for signal {number}")

    async def run() -> int:
        worker = await ServingWorker.start(make_plan(tmp_path), timeout_s=30.0)
        monkeypatch.setattr(os, "killpg", no_such_group)
        os.kill(worker.pid, signal.SIGKILL)
        async with asyncio.timeout(20.0):
            return await worker.exited

    assert asyncio.run(run()) == -signal.SIGKILL
