"""A .tflite file with one kernel, for micro-benchmarks."""

from __future__ import annotations

import numpy as np

from tailorbird.compile.litert import layers
from tailorbird.compile.litert.flatbuffer import Operator, TfliteFile
from tailorbird.types import Candidate, ModuleKind, TensorSpec
from tailorbird.types.kernel import KernelSpec

_SEED = 0  # values do not change the time, but denormals and zeros might


def single_op_model(kernel: KernelSpec) -> bytes:
    """Write the kernel alone, with random weights and the runtime's own (N, H, W, C) inputs. Takes milliseconds.

    Raises ValueError for a kernel that does not exist (no output pixels, channels that groups do not divide).
    """
    _check(kernel)
    file = TfliteFile("tailorbird kernel")
    inputs = [file.input(spec.name, spec.shape) for spec in input_specs(kernel)]
    generator = np.random.default_rng(_SEED)
    vertical, horizontal = kernel.padding
    padding = ((vertical, vertical), (horizontal, horizontal))
    if kernel.op in {"conv2d", "depthwise"}:
        groups = kernel.in_channels if kernel.op == "depthwise" else kernel.groups
        weight = _random(generator, (kernel.out_channels, kernel.in_channels // groups, *kernel.kernel))
        output = layers.convolution(
            file,
            inputs[0],
            weight,
            _random(generator, (kernel.out_channels,)),
            stride=kernel.stride,
            padding=padding,
            dilation=kernel.dilation,
            groups=groups,
            activation=kernel.activation,
        )
    elif kernel.op == "linear":
        weight = _random(generator, (kernel.out_channels, kernel.in_channels))
        output = layers.linear(file, inputs[0], weight, _random(generator, (kernel.out_channels,)), kernel.activation)
    elif kernel.op == "pool":
        if kernel.pool_mode == "mean":
            output = layers.mean(file, inputs[0], (1, 2), keep=True)
        else:
            code = Operator.MAX_POOL_2D if kernel.pool_mode == "max" else Operator.AVERAGE_POOL_2D
            output = layers.pool(file, inputs[0], code, kernel.kernel, kernel.stride, padding, border=0.0)
    else:
        code = Operator.ADD if kernel.op == "add" else Operator.MUL
        output = layers.binary(file, code, inputs[0], inputs[1], kernel.activation)
    return file.serialize([("output_0", output)])


def single_op_candidate(kernel: KernelSpec) -> Candidate:
    """The kernel as a candidate for the agent, labelled with KernelSpec.label."""
    return Candidate(ModuleKind.LITERT_MODEL, single_op_model(kernel), input_specs(kernel), kernel.label)


def input_specs(kernel: KernelSpec) -> tuple[TensorSpec, ...]:
    """Signature of the one-kernel file: x, and y for the operations on two tensors."""
    if kernel.op == "linear":
        return (TensorSpec("x", "FP32", (kernel.batch, kernel.in_channels)),)
    shape = (kernel.batch, kernel.height, kernel.width, kernel.in_channels)
    names = ("x", "y") if kernel.op in {"add", "multiply"} else ("x",)
    return tuple(TensorSpec(name, "FP32", shape) for name in names)


def _check(kernel: KernelSpec) -> None:
    if min(kernel.output_size) < 1:
        raise ValueError(f"{kernel.label} has no output")
    if kernel.op == "depthwise" and kernel.out_channels % kernel.in_channels:
        raise ValueError(f"{kernel.label}: a depthwise kernel has a multiple of its input's channels")
    if kernel.in_channels % kernel.groups or kernel.out_channels % kernel.groups:
        raise ValueError(f"{kernel.label}: channels are not divisible by the groups")
    if kernel.op == "pool" and not kernel.pool_mode:
        raise ValueError(f"{kernel.label}: a pool needs a pool_mode")


def _random(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
