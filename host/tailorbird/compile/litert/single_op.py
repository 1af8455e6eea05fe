"""A .tflite file with one kernel, or a few in a row, for micro-benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tailorbird.compile.litert import layers
from tailorbird.compile.litert.flatbuffer import Operator, TfliteFile
from tailorbird.types import Candidate, ModuleKind, TensorSpec
from tailorbird.types.kernel import KernelSpec

_SEED = 0  # values do not change the time, but denormals and zeros might
_BINARY = {"add": Operator.ADD, "multiply": Operator.MUL}
_RECTIFIERS = {"relu": Operator.RELU, "relu6": Operator.RELU6}


def single_op_model(kernel: KernelSpec) -> bytes:
    """Write the kernel alone, with random weights and the runtime's own (N, H, W, C) inputs. Takes milliseconds.

    Raises ValueError for a kernel that does not exist (no output pixels, channels that groups do not divide).
    """
    return chain_model((kernel,))


def chain_model(kernels: Sequence[KernelSpec]) -> bytes:
    """Write kernels in a row, each on the output of the one before; other operands are inputs of the file.

    Raises ValueError for a kernel that does not exist, or does not fit the one before it.
    """
    file = TfliteFile("tailorbird kernel")
    generator = np.random.default_rng(_SEED)
    first, *others = chain_inputs(kernels)
    x = file.input(first.name, first.shape)
    rest = iter(others)
    for kernel in kernels:
        _check(kernel)
        wanted = _input_shape(kernel)
        if file.shape(x) != wanted:
            if np.prod(file.shape(x)) != np.prod(wanted) or (kernel.height, kernel.width) != (1, 1):
                raise ValueError(f"{kernel.label} does not take {file.shape(x)}")
            x = layers.reshape(file, x, wanted)
        others_in = [file.input(spec.name, spec.shape) for spec in [next(rest)]] if kernel.op in _BINARY else []
        x = _emit(file, kernel, [x, *others_in], generator)
    return file.serialize([("output_0", x)])


def chain_candidate(kernels: Sequence[KernelSpec]) -> Candidate:
    """Kernels in a row as a candidate for the agent."""
    label = " | ".join(kernel.label for kernel in kernels)
    return Candidate(ModuleKind.LITERT_MODEL, chain_model(kernels), chain_inputs(kernels), label)


def chain_inputs(kernels: Sequence[KernelSpec]) -> tuple[TensorSpec, ...]:
    """Signature of the file: x, then y0, y1, ... for the second operands of operations on two tensors."""
    binary = [kernel for kernel in kernels if kernel.op in _BINARY]
    seconds = (TensorSpec(f"y{k}" if k else "y", "FP32", _input_shape(kernel)) for k, kernel in enumerate(binary))
    return (TensorSpec("x", "FP32", _input_shape(kernels[0])), *seconds)


def _emit(file: TfliteFile, kernel: KernelSpec, inputs: Sequence[int], generator: np.random.Generator) -> int:
    x = inputs[0]
    vertical, horizontal = kernel.padding
    padding = ((vertical, vertical), (horizontal, horizontal))
    if kernel.op in {"conv2d", "depthwise"}:
        groups = kernel.in_channels if kernel.op == "depthwise" else kernel.groups
        weight = _random(generator, (kernel.out_channels, kernel.in_channels // groups, *kernel.kernel))
        return layers.convolution(
            file,
            x,
            weight,
            _random(generator, (kernel.out_channels,)),
            stride=kernel.stride,
            padding=padding,
            dilation=kernel.dilation,
            groups=groups,
            activation=kernel.activation,
        )
    if kernel.op == "linear":
        weight = _random(generator, (kernel.out_channels, kernel.in_channels))
        return layers.linear(file, x, weight, _random(generator, (kernel.out_channels,)), kernel.activation)
    if kernel.op == "pool":
        if kernel.pool_mode == "mean":
            return layers.mean(file, x, (1, 2), keep=True)
        code = Operator.MAX_POOL_2D if kernel.pool_mode == "max" else Operator.AVERAGE_POOL_2D
        return layers.pool(file, x, code, kernel.kernel, kernel.stride, padding, border=0.0)
    if kernel.op == "activation":
        return file.operator(_RECTIFIERS[kernel.activation], [x], file.shape(x))
    return layers.binary(file, _BINARY[kernel.op], x, inputs[1], kernel.activation)


def single_op_candidate(kernel: KernelSpec) -> Candidate:
    """The kernel as a candidate for the agent, labelled with KernelSpec.label."""
    return Candidate(ModuleKind.LITERT_MODEL, single_op_model(kernel), input_specs(kernel), kernel.label)


def input_specs(kernel: KernelSpec) -> tuple[TensorSpec, ...]:
    """Signature of the one-kernel file: x, and y for the operations on two tensors."""
    return chain_inputs((kernel,))


def _input_shape(kernel: KernelSpec) -> tuple[int, ...]:
    if kernel.op == "linear":
        return (kernel.batch, kernel.in_channels)
    return (kernel.batch, kernel.height, kernel.width, kernel.in_channels)


def _check(kernel: KernelSpec) -> None:
    if min(kernel.output_size) < 1:
        raise ValueError(f"{kernel.label} has no output")
    if kernel.op == "depthwise" and kernel.out_channels % kernel.in_channels:
        raise ValueError(f"{kernel.label}: a depthwise kernel has a multiple of its input's channels")
    if kernel.in_channels % kernel.groups or kernel.out_channels % kernel.groups:
        raise ValueError(f"{kernel.label}: channels are not divisible by the groups")
    if kernel.op == "pool" and not kernel.pool_mode:
        raise ValueError(f"{kernel.label}: a pool needs a pool_mode")
    if kernel.op == "activation" and kernel.activation not in _RECTIFIERS:
        raise ValueError(f"{kernel.label}: an activation is one of {', '.join(_RECTIFIERS)}")


def _random(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(0.05)
