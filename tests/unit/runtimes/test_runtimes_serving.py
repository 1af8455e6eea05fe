"""Ladders of several runtimes are served by one worker, and measured by another."""

from __future__ import annotations

import asyncio
import importlib.util

import numpy as np
import pytest
from runtime_modules import WEIGHT, build_litert, build_tvm, tvm_runtime_library

from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_agent.worker.measuring import MeasuringWorker
from tailorbird_agent.worker.plan import CandidatePlan, Protocol, RungPlan, ServePlan, TensorSpec
from tailorbird_agent.worker.serving import ServingWorker

GOLDEN = [np.random.default_rng(seed).standard_normal((1, 16)).astype(np.float32) for seed in range(4)]
BRIEF = Protocol("kernel", min_runs=5, min_time_ms=2.0, max_time_ms=200.0)


def make_plan(folder, runtime: str) -> ServePlan:
    """r0 is a reference module, r1 and r2 are the runtime's: same function, shifted by 0, 10, 20; r2 on two threads."""
    function = (lambda x: x @ WEIGHT) if runtime == "tvm" else (lambda x: x)
    width = 4 if runtime == "tvm" else 16
    tensorfile.write(folder / "inputs", {f"input.{k}.x": x for k, x in enumerate(GOLDEN)})
    rungs = []
    for index, (kind, threads) in enumerate([("reference", 1), (runtime, 1), (runtime, 2)]):
        shift = 10.0 * index
        module, golden = folder / f"module{index}", folder / f"golden{index}"
        tensorfile.write(golden, {f"output.{k}.y": function(x) + np.float32(shift) for k, x in enumerate(GOLDEN)})
        if kind == "reference":
            weight = WEIGHT if runtime == "tvm" else np.eye(16, dtype=np.float32)
            save(module, [Step("matmul", ("input.0", "weight"), "output.0")], {"weight": weight})
        elif kind == "tvm":
            build_tvm(module, shift)
        else:
            build_litert(module, shift)
        rungs.append(RungPlan(f"r{index}", kind, module, (), threads, 0.5, 10.0 + index, golden, 1e-4, 1 << 20))
    libraries = (("tvm", tvm_runtime_library()),) if runtime == "tvm" else ()
    inputs, outputs = (TensorSpec("x", "FP32", (1, 16)),), (TensorSpec("y", "FP32", (1, width)),)
    return ServePlan("toy", inputs, outputs, tuple(rungs), folder / "inputs", libraries, "static-large", None)


@pytest.mark.parametrize("runtime", ["tvm", "litert"])
def test_one_worker_serves_rungs_of_two_runtimes_and_thread_counts(tmp_path, runtime) -> None:
    if importlib.util.find_spec("tvm") is None and runtime == "tvm":
        pytest.skip("the TVM compiler is not installed")
    plan = make_plan(tmp_path, runtime)

    async def run():
        worker = await ServingWorker.start(plan, timeout_s=60.0)
        try:
            calls = [worker.infer([x.tobytes()], rung=f"r{k % 3}", timeout_s=30.0) for k, x in enumerate(GOLDEN)]
            return await asyncio.gather(*calls)
        finally:
            await worker.stop()

    for k, answer in enumerate(asyncio.run(run())):
        golden = tensorfile.read(tmp_path / f"golden{k % 3}").tensors[f"output.{k}.y"]
        np.testing.assert_allclose(np.frombuffer(answer.outputs[0], np.float32), golden[0], atol=1e-4)
        assert answer.rung == f"r{k % 3}"
        assert answer.cpu_us > 0


@pytest.mark.parametrize("runtime", ["tvm", "litert"])
def test_models_are_measured_under_both_clocks_with_their_circumstances(tmp_path, runtime) -> None:
    if importlib.util.find_spec("tvm") is None and runtime == "tvm":
        pytest.skip("the TVM compiler is not installed")
    plan = make_plan(tmp_path, runtime)
    candidate = CandidatePlan(f"{runtime}-model", plan.rungs[1].module, plan.inputs, "model")

    async def run():
        worker = MeasuringWorker()
        try:
            return [timings async for _, timings in worker.measure([candidate], BRIEF, plan.runtime_libraries, 30.0)]
        finally:
            await worker.stop()

    (timings,) = asyncio.run(run())
    assert (timings.label, timings.error) == ("model", "")
    assert len(timings.wall_us) == len(timings.cpu_us) >= 5
    assert 0.0 < min(timings.cpu_us) < 1000.0
    assert timings.verdict in {"ok", "noisy", "contended", "throttled", "unstable"}
    environment = dict(timings.environment)
    assert environment["runtime"].startswith(f"{runtime} ")
    assert {"mode", "calls_per_sample", "memory_available_bytes.before"} <= set(environment)
