"""Compare a compiled module with torch on the host.

Tolerance: the largest absolute difference over all outputs may be at most 1e-4 times the largest absolute value torch
gives for that output, and never less than 1e-5. Folding batch norm and reordering float32 sums move a 50-layer network
by 1e-6 to 1e-5 of its range; a wrong stride, axis or padding moves it by 1e-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tailorbird.compile.base import Built
from tailorbird.compile.capture import evaluating
from tailorbird.errors import CompileError, InputShapeError, VerifyError

RELATIVE_TOLERANCE = 1e-4
ABSOLUTE_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Verification:
    """Largest absolute difference between module and torch, and the largest one that is accepted."""

    max_error: float
    tolerance: float


def verify(built: Built, subnet: nn.Module, batches: Sequence[Sequence[torch.Tensor]]) -> Verification:
    """Run the module, and the subnet in evaluation mode, on each tuple of inputs and compare the outputs.

    Raises:
        VerifyError: an output differs by more than the tolerance, or is not finite.
        InputShapeError: an input does not fit the module's signature.
        CompileError: the module is for another CPU than the host's.
    """
    for batch in batches:
        shapes = tuple(tuple(value.shape) for value in batch)
        if shapes != tuple(spec.shape for spec in built.inputs):
            raise InputShapeError(
                f"inputs of shapes {shapes} do not fit the module",
                why=f"it takes {', '.join(f'{spec.name}{spec.shape}' for spec in built.inputs)}",
                fix="verify with inputs of those shapes",
            )
    outputs = _run(built, [[value.numpy() for value in batch] for batch in batches])
    worst = Verification(0.0, ABSOLUTE_TOLERANCE)
    for batch, given in zip(batches, outputs, strict=True):
        with evaluating(subnet):
            reference = subnet(*batch)
        expected = reference if isinstance(reference, (tuple, list)) else (reference,)
        for spec, want, got in zip(built.outputs, expected, given, strict=True):
            found = _compare(built, spec.name, want, got)
            if found.max_error / found.tolerance >= worst.max_error / worst.tolerance:
                worst = found
    return worst


def _compare(built: Built, name: str, want: torch.Tensor, got: np.ndarray) -> Verification:
    tolerance = max(ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE * float(want.abs().max()))
    error = float(np.abs(np.asarray(got, np.float64) - want.double().numpy()).max())
    if not error <= tolerance:  # also true of NaN
        raise VerifyError(
            f"{name} of the {built.runtime} module differs from torch by {error:.3g}",
            why=f"the tolerance is {tolerance:.3g}",
            fix="report the model: the compiler made a mistake; the other runtime may be right",
        )
    return Verification(error, tolerance)


def _run(built: Built, batches: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """Outputs of the module for each tuple of inputs, in the order of its signature."""
    if built.runtime == "litert":
        from tailorbird.compile.litert.run import run
    elif built.runtime == "tvm":
        from tailorbird.compile.tvm.run import run
    else:
        raise CompileError(f"the host cannot run {built.runtime} modules")
    return run(built, batches)
