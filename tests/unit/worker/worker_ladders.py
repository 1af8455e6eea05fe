"""Small real ladders: reference modules on disk, whose rungs answer differently on every input."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_agent.worker.plan import RungPlan, ServePlan, TensorSpec
from tailorbird_agent.worker.serving import ServingWorker

T = TypeVar("T")

WIDTH, CLASSES, GOLDEN = 16, 4, 4
RUNG_GAP = 100.0  # the outputs of rung k are shifted by k times this


def inputs(seed: int = 0) -> np.ndarray:
    """One request's input, (1, WIDTH)."""
    return np.random.default_rng(seed).standard_normal((1, WIDTH)).astype(np.float32)


def expected(x: np.ndarray, rung: int) -> np.ndarray:
    """What rung k answers, (1, CLASSES)."""
    return x @ np.full((WIDTH, CLASSES), 0.5, np.float32) + np.float32(rung * RUNG_GAP)


def make_plan(folder: Path, rungs: int = 3, *, policy: str = "static-large", slo_us: float | None = None) -> ServePlan:
    """Write a ladder of reference rungs r0, r1, ... and return its plan."""
    golden = [inputs(seed) for seed in range(GOLDEN)]
    tensorfile.write(folder / "inputs", {f"input.{k}.x": x for k, x in enumerate(golden)})
    plans = []
    for rung in range(rungs):
        module, outputs = folder / f"module{rung}", folder / f"golden{rung}"
        tensors = {
            "weight": np.full((WIDTH, CLASSES), 0.5, np.float32),
            "bias": np.full(CLASSES, rung * RUNG_GAP, np.float32),
        }
        save(module, [Step("affine", ("input.0", "weight", "bias"), "output.0")], tensors)
        tensorfile.write(outputs, {f"output.{k}.y": expected(x, rung) for k, x in enumerate(golden)})
        accuracy, cpu_us = 0.7 + 0.05 * rung, 10.0 * (rung + 1)
        plans.append(RungPlan(f"r{rung}", "reference", module, (), 1, accuracy, cpu_us, outputs, 1e-4, 1 << 20))
    return ServePlan(
        model="toy",
        inputs=(TensorSpec("x", "FP32", (1, WIDTH)),),
        outputs=(TensorSpec("y", "FP32", (1, CLASSES)),),
        rungs=tuple(plans),
        golden_inputs=folder / "inputs",
        runtime_libraries=(),
        policy=policy,
        slo_us=slo_us,
    )


def with_rung(plan: ServePlan, index: int, **changes: object) -> ServePlan:
    """The plan with one rung changed."""
    rungs = list(plan.rungs)
    rungs[index] = replace(rungs[index], **changes)
    return replace(plan, rungs=tuple(rungs))


def serving(plan: ServePlan, use: Callable[[ServingWorker], Awaitable[T]], **settings: float) -> T:
    """Start a worker, use it, stop it."""

    async def run() -> T:
        worker = await ServingWorker.start(plan, timeout_s=30.0, **settings)
        try:
            return await use(worker)
        finally:
            await worker.stop()

    return asyncio.run(run())


def decoded(output: bytes) -> np.ndarray:
    """A toy answer as an array, (1, CLASSES)."""
    return np.frombuffer(output, np.float32).reshape(1, CLASSES)
