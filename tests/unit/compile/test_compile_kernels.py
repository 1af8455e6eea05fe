"""Kernels of a subnet, and each of them alone as a .tflite file."""

from __future__ import annotations

import numpy as np
import pytest
from compile_models import OptionA, ResidualNet, SqueezeExcite, noise, settled
from torch import nn

from tailorbird.compile.capture import capture
from tailorbird.compile.kernels import kernels_of
from tailorbird.compile.litert.single_op import input_specs, single_op_candidate, single_op_model
from tailorbird.types.kernel import KernelSpec

DENSE = KernelSpec("conv2d", 3, 8, 9, 7, (3, 3), (2, 1), (1, 1), "relu")


def _run(kernel: KernelSpec) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=single_op_model(kernel))
    interpreter.allocate_tensors()
    for detail, spec in zip(interpreter.get_input_details(), input_specs(kernel), strict=True):
        assert tuple(detail["shape"]) == spec.shape
        interpreter.set_tensor(detail["index"], np.ones(spec.shape, np.float32))
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_batch_norm_and_activation_belong_to_the_kernel_before_them() -> None:
    kernels = kernels_of(settled(ResidualNet()), (noise(1, 1, 16, 16),))
    assert [kernel.label for kernel in kernels] == [
        "conv2d n1 c1>8 16x16 k3x3 s1x1 p1x1 relu",
        "conv2d n1 c8>8 16x16 k3x3 s1x1 p1x1 relu",
        "conv2d n1 c8>8 16x16 k3x3 s1x1 p1x1",
        "add n1 c8>8 16x16 relu",
        "conv2d n1 c8>16 16x16 k3x3 s2x2 p1x1 relu",
        "conv2d n1 c16>16 8x8 k3x3 s1x1 p1x1",
        "conv2d n1 c8>16 16x16 k1x1 s2x2 p0x0",
        "add n1 c16>16 8x8 relu",
        "pool n1 c16>16 8x8 mean",
        "linear n1 c16>10 1x1",
    ]


def test_depthwise_squeeze_excite_and_pools_are_recognised() -> None:
    kernels = kernels_of(settled(SqueezeExcite()), (noise(2, 8, 7, 9),))
    assert [(kernel.op, kernel.activation, kernel.batch) for kernel in kernels] == [
        ("depthwise", "relu6", 2),
        ("pool", "", 2),
        ("conv2d", "relu", 2),
        ("conv2d", "", 2),
        ("multiply", "", 2),
    ]


def test_a_captured_network_gives_the_same_kernels() -> None:
    x = noise(2, 4, 8, 8)
    assert kernels_of(capture(settled(OptionA()), (x,))) == kernels_of(settled(OptionA()), (x,))


def test_macs_and_weights_match_those_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, groups=2), nn.Flatten(), nn.Linear(6 * 4 * 4, 5)).eval()
    kernels = kernels_of(network, (noise(1, 4, 8, 8),))
    assert sum(kernel.weight_count for kernel in kernels) == sum(p.numel() for p in network.parameters())
    assert [kernel.macs for kernel in kernels] == [6 * 4 * 4 * 9 * 2, 96 * 5]


@pytest.mark.parametrize(
    "kernel",
    [
        DENSE,
        KernelSpec("conv2d", 8, 4, 6, 6, groups=2, kernel=(3, 3), padding=(1, 1), dilation=(2, 2)),
        KernelSpec("depthwise", 6, 12, 8, 8, (5, 5), (2, 2), (2, 2), "relu6", batch=2),
        KernelSpec("linear", 32, 10, batch=3),
        KernelSpec("add", 8, 8, 5, 5, activation="relu"),
        KernelSpec("multiply", 8, 8, 5, 5),
        KernelSpec("pool", 8, 8, 6, 6, (3, 3), (2, 2), (1, 1), pool_mode="max"),
        KernelSpec("pool", 8, 8, 6, 6, (2, 2), (2, 2), pool_mode="average"),
        KernelSpec("pool", 8, 8, 6, 6, pool_mode="mean"),
    ],
    ids=lambda kernel: kernel.label,
)
def test_a_kernel_runs_alone_and_has_the_size_it_says(kernel) -> None:
    output = _run(kernel)
    expected = (kernel.batch, kernel.out_channels) if kernel.op == "linear" else None
    assert output.shape == (expected or (kernel.batch, *kernel.output_size, kernel.out_channels))
    assert np.isfinite(output).all()


def test_a_kernel_becomes_a_candidate_with_its_label() -> None:
    candidate = single_op_candidate(DENSE)
    assert candidate.label == DENSE.label
    assert candidate.args[0].shape == (1, 9, 7, 3)
    assert candidate.module == single_op_model(DENSE)


@pytest.mark.parametrize(
    "kernel",
    [
        KernelSpec("conv2d", 3, 8, 2, 2, (5, 5)),
        KernelSpec("conv2d", 3, 8, 8, 8, groups=2),
        KernelSpec("depthwise", 6, 8, 8, 8, (3, 3)),
        KernelSpec("pool", 6, 6, 8, 8, (2, 2)),
    ],
    ids=["no output", "groups", "depthwise", "pool without a mode"],
)
def test_a_kernel_that_does_not_exist_is_refused(kernel) -> None:
    with pytest.raises(ValueError, match=kernel.op):
        single_op_model(kernel)
