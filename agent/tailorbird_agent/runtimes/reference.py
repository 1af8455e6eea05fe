"""The reference runtime: numpy, and modules that are short programs in a tensor file.

For tests, footprint benchmarks and devices without any other runtime; it is readable, not fast.

Module format, version 1: a tensor file whose metadata holds `format` = "tailorbird.reference/1" and `program`, a JSON
list of steps. A step is `{"op": OP, "in": [NAMES], "out": NAME}`; NAMES are `input.0`, `input.1`, ..., results of
earlier steps, or tensors of the file (or of parameter files given beside it). Results are `output.0`, `output.1`, ...

    affine      in: x, weight, bias   x @ weight + bias, x flattened behind its first axis
    matmul      in: x, y              x @ y
    add         in: x, y              x + y, with numpy's broadcasting
    multiply    in: x, y              x * y, with numpy's broadcasting
    relu        in: x                 max(x, 0)
    softmax     in: x                 over the last axis
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird_agent.runtimes import REFERENCE_VERSION, tensorfile
from tailorbird_agent.runtimes.base import Array, ModuleInvalidError

FORMAT = f"tailorbird.reference/{REFERENCE_VERSION}"


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a program: names in, one name out."""

    op: str
    operands: tuple[str, ...]
    result: str


class ReferenceModule:
    """A program and its tensors."""

    def __init__(self, steps: tuple[Step, ...], tensors: Mapping[str, Array]) -> None:
        self._steps = steps
        self._tensors = dict(tensors)
        self._outputs = [f"output.{index}" for index in range(sum(s.result.startswith("output.") for s in steps))]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run all steps in order."""
        values: dict[str, Any] = self._tensors | {f"input.{index}": value for index, value in enumerate(inputs)}
        for step in self._steps:
            values[step.result] = _OPERATIONS[step.op](*(values[name] for name in step.operands))
        return [values[name] for name in self._outputs]

    def close(self) -> None:
        """Drop the tensors, and with them their mapping."""
        self._tensors.clear()


class ReferenceRuntime:
    """Loads reference modules. numpy's own thread pool is sized by the worker's environment."""

    version = REFERENCE_VERSION

    def load(self, module: Path, parameters: Sequence[Path] = (), *, threads: int = 1) -> ReferenceModule:  # noqa: ARG002
        """Load a module and parameter files.

        Raises:
            ModuleInvalidError: not a reference module, an unknown operation, or a name nobody defines.
        """
        file = tensorfile.read(module)
        if file.metadata.get("format") != FORMAT:
            raise ModuleInvalidError(f"{module.name} is not a reference module of format {FORMAT}")
        tensors = dict(file.tensors)
        for path in parameters:
            tensors |= tensorfile.read(path).tensors
        try:
            program = json.loads(file.metadata["program"])
            steps = tuple(Step(step["op"], tuple(step["in"]), step["out"]) for step in program)
        except (ValueError, KeyError, TypeError) as error:
            raise ModuleInvalidError(f"{module.name} holds no program: {error!r}") from error
        _check(steps, set(tensors), module.name)
        return ReferenceModule(steps, tensors)


def save(path: Path, steps: Sequence[Step], tensors: Mapping[str, Array]) -> None:
    """Write a reference module.

    Raises:
        ModuleInvalidError: an unknown operation, or a name nobody defines.
    """
    _check(tuple(steps), set(tensors), path.name)
    program = [{"op": step.op, "in": step.operands, "out": step.result} for step in steps]
    tensorfile.write(path, tensors, {"format": FORMAT, "program": json.dumps(program)})


def _check(steps: tuple[Step, ...], known: set[str], name: str) -> None:
    defined = set(known)
    for step in steps:
        if step.op not in _OPERATIONS:
            raise ModuleInvalidError(f"{name}: unknown operation {step.op!r}; there are: {', '.join(_OPERATIONS)}")
        missing = [each for each in step.operands if each not in defined and not each.startswith("input.")]
        if missing:
            raise ModuleInvalidError(f"{name}: {step.op} reads {', '.join(missing)}, which nothing defines")
        defined.add(step.result)
    if "output.0" not in defined:
        raise ModuleInvalidError(f"{name}: no step defines output.0")


def _affine(x: Array, weight: Array, bias: Array) -> Array:
    return x.reshape(x.shape[0], -1) @ weight + bias


def _softmax(x: Any) -> Any:
    exponent = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "affine": _affine,
    "matmul": np.matmul,
    "add": np.add,
    "multiply": np.multiply,
    "relu": lambda x: np.maximum(x, 0),
    "softmax": _softmax,
}
