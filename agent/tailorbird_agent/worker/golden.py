"""Golden tensors: examples and what a model must answer to each; in files, `input.<k>.<name>`, `output.<k>.<name>`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailorbird_agent.runtimes import ModuleInvalidError, tensorfile
from tailorbird_agent.runtimes.arrays import aligned_copy
from tailorbird_agent.runtimes.base import Array
from tailorbird_agent.worker.plan import DATATYPES, GoldenPlan, TensorSpec

_INPUT = re.compile(r"input\.(\d+)\.(.+)")


class WrongAnswerError(Exception):
    """A model's answer is not the golden one."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest difference between a model's answers and the golden ones, beside the one accepted there."""

    error: float
    tolerance: float


def golden_inputs(path: Path, specs: Sequence[TensorSpec]) -> dict[int, list[Array]]:
    """Examples by number, each in the order of `specs`. Raises ModuleInvalidError."""
    tensors = tensorfile.read(path).tensors
    numbers = sorted({int(match[1]) for name in tensors if (match := _INPUT.fullmatch(name))})
    if not numbers:
        raise ModuleInvalidError(f"{path.name} holds no golden input")
    return {k: [golden_tensor(tensors, f"input.{k}", spec, path) for spec in specs] for k in numbers}


def golden_tensor(tensors: Mapping[str, Array], prefix: str, spec: TensorSpec, path: Path) -> Array:
    """One tensor of a golden file. Raises ModuleInvalidError when it is not there or is another than `spec` says."""
    tensor = tensors.get(f"{prefix}.{spec.name}")
    if tensor is None:
        raise ModuleInvalidError(f"{path.name} lacks the golden tensor {prefix}.{spec.name}")
    if tensor.shape != spec.shape or tensor.dtype != DATATYPES[spec.datatype][0]:
        found = f"{tensor.dtype} {tensor.shape}"
        raise ModuleInvalidError(f"golden tensor {prefix}.{spec.name} is {found}, not {spec.datatype} {spec.shape}")
    return aligned_copy(tensor)


def difference(found: Array, golden: Array) -> float:
    """Largest absolute difference; NaN where one of both is."""
    return float(np.max(np.abs(found.astype(np.float64) - golden.astype(np.float64)), initial=0.0))


def compare(
    plan: GoldenPlan, inputs: Sequence[TensorSpec], run: Callable[[Sequence[Array]], Sequence[Array]]
) -> Agreement:
    """Run a model on every example and compare its answers; the agreement that is nearest to none.

    Raises WrongAnswerError, also for outputs of another number, type or shape; ModuleInvalidError for a golden file.
    """
    tensors = tensorfile.read(plan.outputs).tensors
    worst = Agreement(0.0, 0.0)
    for k, arrays in golden_inputs(plan.inputs, inputs).items():
        outputs = run(arrays)
        told = [(str(output.dtype), output.shape) for output in outputs]
        wanted = [(str(np.dtype(DATATYPES[spec.datatype][0])), spec.shape) for spec in plan.specs]
        if told != wanted:
            raise WrongAnswerError(f"it gives {told}, not {wanted}")
        for spec, output in zip(plan.specs, outputs, strict=True):
            golden = golden_tensor(tensors, f"output.{k}", spec, plan.outputs)
            largest = float(np.max(np.abs(golden.astype(np.float64)), initial=0.0))
            tolerance = max(plan.absolute, plan.relative * largest)
            error = difference(output, golden)
            if not error <= tolerance:  # so that NaN, too, is wrong
                words = f"{spec.name} of example {k} is off by {error:.3g}, {tolerance:.3g} is accepted"
                raise WrongAnswerError(words)
            if error * worst.tolerance >= worst.error * tolerance:
                worst = Agreement(error, tolerance)
    return worst
