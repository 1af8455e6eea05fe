"""A batch of candidates is measured to its end whatever single candidates do to the process that measures them."""

from __future__ import annotations

import asyncio

import pytest
from worker_rigs import TVM_RUNTIME, build_library

from tailorbird_agent.worker.failure import WorkerError
from tailorbird_agent.worker.measuring import MeasuringWorker
from tailorbird_agent.worker.plan import CandidatePlan, Protocol, TensorSpec

BRIEF = Protocol("kernel", min_runs=5, min_time_ms=2.0, max_time_ms=200.0)
ARGS = (TensorSpec("a", "FP32", (64,)), TensorSpec("b", "FP32", (64,)))
LIBRARIES = (("tvm", TVM_RUNTIME),)


def measure(candidates, *, libraries=LIBRARIES, timeout_s: float = 20.0):
    """All (index, timings), and whether the worker went on measuring afterwards."""

    async def run():
        worker = MeasuringWorker()
        try:
            return [pair async for pair in worker.measure(candidates, BRIEF, libraries, timeout_s)]
        finally:
            await worker.stop()

    return asyncio.run(run())


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    """A real kernel, b = 2 a, built by TVM."""
    import tvm
    from tvm import te

    a = te.placeholder((64,), "float32", name="a")
    b = te.compute((64,), lambda i: a[i] * 2.0, name="b")
    function = te.create_prim_func([a, b]).with_attr("global_symbol", "main")
    path = tmp_path_factory.mktemp("kernel") / "double.so"
    target = tvm.target.Target({"kind": "llvm"})
    tvm.compile(tvm.IRModule({"main": function}), target=target).export_library(str(path))
    return path


def test_a_batch_with_a_crash_a_hang_and_nonsense_goes_on_to_the_good_ones(tmp_path, double) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\x7fELF and then nothing")
    modules = {
        "good": double,
        "abort": build_library(tmp_path, "abort", "abort();"),
        "segfault": build_library(tmp_path, "segfault", "raise(SIGSEGV);"),
        "good again": double,
        "hang": build_library(tmp_path, "hang", "for (;;) {}"),
        "nonsense": nonsense,
        "absent": tmp_path / "absent",
        "exit": build_library(tmp_path, "exit", "exit(0);"),
        "last": double,
    }
    candidates = [CandidatePlan("tvm-kernel", path, ARGS, label) for label, path in modules.items()]
    results = measure(candidates, timeout_s=3.0)
    assert [(index, timings.label) for index, timings in results] == list(enumerate(modules))
    timings = {each.label: each for _, each in results}
    for label in ("good", "good again", "last"):
        assert timings[label].error == ""
        assert len(timings[label].cpu_us) == len(timings[label].wall_us) >= 5
        assert 0.0 < min(timings[label].cpu_us) < 50.0
    assert "SIGABRT" in timings["abort"].error
    assert "SIG" in timings["segfault"].error
    assert "not done within 3 s" in timings["hang"].error
    assert "ModuleInvalidError" in timings["nonsense"].error
    assert "ModuleInvalidError" in timings["absent"].error
    assert "exited with status 0" in timings["exit"].error
    assert all(not each.wall_us and not each.cpu_us for each in timings.values() if each.error)


def test_wrong_arguments_and_a_missing_runtime_are_errors_of_the_candidate(double) -> None:
    (_, wrong), (_, right) = measure(
        [CandidatePlan("tvm-kernel", double, ARGS[:1], "one"), CandidatePlan("tvm-kernel", double, ARGS, "two")]
    )
    assert "Expected 2 arguments" in wrong.error
    assert right.error == ""
    ((_, missing),) = measure([CandidatePlan("tvm-kernel", double, ARGS, "no runtime")], libraries=())
    assert missing.error.startswith("RuntimeMissingError: the TVM runtime library is absent")


def test_stopping_ends_a_measurement_and_the_next_one_works(tmp_path, double) -> None:
    hang = build_library(tmp_path, "hang", "for (;;) {}")

    async def run():
        worker = MeasuringWorker()
        hanging = worker.measure([CandidatePlan("tvm-kernel", hang, ARGS, "hang")], BRIEF, LIBRARIES, 60.0)
        waiting = asyncio.ensure_future(anext(hanging))
        await asyncio.sleep(0)
        assert worker.busy
        await worker.stop()
        _, stopped = await waiting
        good = worker.measure([CandidatePlan("tvm-kernel", double, ARGS, "good")], BRIEF, LIBRARIES, 20.0)
        try:
            return stopped, await anext(good)
        finally:
            await worker.stop()

    stopped, (_, good) = asyncio.run(run())
    assert "the measurement was stopped" in stopped.error
    assert good.error == ""


def test_a_cancelled_measurement_leaves_no_child_behind(tmp_path) -> None:
    hang = build_library(tmp_path, "hang", "for (;;) {}")

    async def run():
        worker = MeasuringWorker()
        batch = worker.measure([CandidatePlan("tvm-kernel", hang, ARGS, "hang")], BRIEF, LIBRARIES, 60.0)
        waiting = asyncio.ensure_future(anext(batch))
        await asyncio.sleep(0)
        assert worker.busy
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return worker.busy

    assert asyncio.run(run()) is False


def test_an_unknown_figure_is_refused_with_those_that_exist() -> None:
    async def run() -> None:
        await MeasuringWorker().benchmark(["gemm-fp33"], BRIEF)

    with pytest.raises(ValueError, match="gemm-fp33; there are: gemm-fp32, stream-triad"):
        asyncio.run(run())


def test_device_figures_are_plausible_and_carry_their_timings() -> None:
    async def run():
        worker = MeasuringWorker()
        try:
            return await worker.benchmark([], Protocol("kernel", min_runs=3, min_time_ms=30.0, max_time_ms=500.0))
        finally:
            await worker.stop()

    gemm, triad = asyncio.run(run())
    assert (gemm.name, gemm.unit) == ("gemm-fp32", "GFLOP/s")
    assert 0.5 < gemm.value < 10_000
    assert (triad.name, triad.unit) == ("stream-triad", "GB/s")
    assert 0.5 < triad.value < 1_000
    assert all(figure.timings.cpu_us and not figure.timings.error for figure in (gemm, triad))


def test_a_worker_error_reads_reason_first() -> None:
    assert str(WorkerError("WORKER_DIED", "worker 7 was ended by SIGSEGV")) == (
        "WORKER_DIED: worker 7 was ended by SIGSEGV"
    )
