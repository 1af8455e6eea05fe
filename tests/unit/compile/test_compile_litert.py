"""The .tflite writer: every network it writes answers as torch does."""

from __future__ import annotations

import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from compile_models import HOST, Attention, InPlace, OptionA, PreActivation, ResidualNet, SqueezeExcite, noise, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tailorbird.compile.base import backend
from tailorbird.compile.capture import capture
from tailorbird.compile.verify import verify
from tailorbird.errors import CompileError


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs):
        return self._function(*inputs)


def check(module: nn.Module, *inputs: torch.Tensor) -> bytes:
    built = backend("litert").build(capture(module, inputs), HOST)
    assert verify(built, module, [inputs]).max_error < 1e-5
    return built.module


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (ResidualNet(), (1, 1, 16, 16)),
        (ResidualNet((5, 12)), (3, 1, 16, 16)),
        (OptionA(), (2, 4, 8, 8)),
        (SqueezeExcite(), (1, 8, 7, 9)),
        (InPlace(), (1, 3, 5, 6)),
        (PreActivation(), (1, 4, 6, 6)),
        (nn.Sequential(nn.Flatten(), nn.Linear(18, 8), nn.ReLU6(), nn.Dropout(), nn.Linear(8, 3)), (2, 2, 3, 3)),
    ],
    ids=["residual", "odd widths", "option A", "squeeze-excite", "in place", "pre-activation", "perceptron"],
)
def test_a_network_answers_as_torch_does(module, shape) -> None:
    check(settled(module), noise(*shape))


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        F.relu6,
        F.hardswish,
        F.hardsigmoid,
        F.silu,
        F.gelu,
        torch.tanh,
        torch.sigmoid,
        lambda x: F.leaky_relu(x, 0.2),
        lambda x: F.hardtanh(x, -1, 1),
        lambda x: F.softmax(x, 1),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.max_pool2d(torch.relu(x), 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
        lambda x: F.interpolate(x, (3, 5), mode="bilinear"),
        lambda x: F.interpolate(x, (7, 9), mode="bilinear", align_corners=True),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean(1),
        lambda x: x.mean((-1, -2), keepdim=True) * x,
        lambda x: x - 0.5 * x.mean(0),
        lambda x: torch.add(x, x, alpha=3) / 2,
        lambda x: torch.cat([x, x * 2], 1),
        lambda x: torch.cat([x, x], dim=-1),
        lambda x: x[:, 1:3, ::2, 1:],
        lambda x: x[:, :, ::2, ::3],
        lambda x: x[:, :],
        lambda x: x[:, :, 1:5:2, 1::2],
        lambda x: x[:, :1, ::2],
        lambda x: x[:, ::2],
        lambda x: x[:, 2],
        lambda x: F.pad(x, (1, 2, 0, 3)),
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 2), value=-1.5),
        lambda x: x.flatten(1),
        lambda x: x.reshape(2, 2, 12, 4),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.transpose(1, 3),
        lambda x: x.unsqueeze(0).squeeze(0),
        lambda x: x.chunk(2, 1)[1] * x.chunk(2, 1)[0],
        lambda x: torch.split(x, [1, 3], 1)[1],
        lambda x: (x, x),
        lambda x: (x * 1.0, torch.relu(x)),
    ],
)
def test_an_operation_answers_as_torch_does(function) -> None:
    check(Call(function), noise(2, 4, 6, 4))


def test_every_second_pixel_is_taken_by_an_operator_that_xnnpack_runs() -> None:
    module = check(Call(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))), noise(1, 4, 8, 8))
    codes = {code.builtinCode for code in schema.ModelT.InitFromPackedBuf(module, 0).operatorCodes}
    assert schema.BuiltinOperator.STRIDED_SLICE not in codes
    assert schema.BuiltinOperator.DEPTHWISE_CONV_2D in codes


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(),
    size=st.tuples(st.integers(7, 11), st.integers(7, 11)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    groups=st.sampled_from(["dense", "grouped", "depthwise", "multiplied"]),
)
def test_any_convolution_geometry_answers_as_torch_does(data, size, kernel, stride, dilation, groups) -> None:
    padding = tuple(data.draw(st.integers(0, 2)) for _ in range(2))
    channels, outputs, count = {
        "dense": (3, 5, 1),
        "grouped": (4, 6, 2),
        "depthwise": (4, 4, 4),
        "multiplied": (3, 6, 3),
    }[groups]
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, count)
    check(nn.Sequential(layer, nn.ReLU()).eval(), noise(1, channels, *size))


def test_the_boundary_keeps_channels_first() -> None:
    network = capture(settled(OptionA()), (noise(2, 4, 8, 8),))
    built = backend("litert").build(network, HOST)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=built.module)
    assert interpreter.get_input_details()[0]["shape"].tolist() == [2, 4, 8, 8]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [2, 8, 4, 4]


def test_activations_are_fused_and_one_channel_needs_no_transpose() -> None:
    from ai_edge_litert.interpreter import Interpreter

    built = backend("litert").build(capture(settled(ResidualNet()), (noise(1, 1, 16, 16),)), HOST)
    operations = [detail["op_name"] for detail in Interpreter(model_content=built.module)._get_ops_details()]
    assert "RELU" not in operations
    assert "TRANSPOSE" not in operations
    assert operations.count("CONV_2D") == 6


def test_an_operation_it_lacks_is_named_with_the_way_out() -> None:
    with pytest.raises(CompileError, match="scaled_dot_product_attention") as caught:
        backend("litert").build(capture(Attention(), (noise(1, 2, 4, 8),)), HOST)
    assert "litert-torch converter" in caught.value.why
    assert "tvm" in caught.value.fix


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: F.max_pool2d(x, 2, 1, dilation=2), "dilated"),
        (lambda x: F.max_pool2d(x, 4, 3, ceil_mode=True), "ceil_mode"),
        (lambda x: F.avg_pool2d(x, 2, divisor_override=3), "divisor"),
        (lambda x: F.adaptive_avg_pool2d(x, 4), "different sizes"),
        (lambda x: x.clamp(-2, 2), "bounds"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "reflect"),
        (lambda x: F.softmax(x, 2), "last stored axis"),
        (lambda x: F.conv2d(x, x[:, :, :3, :3]), "computed by the network"),
    ],
)
def test_what_tflite_cannot_express_is_refused(function, reason) -> None:
    with pytest.raises(CompileError) as caught:
        backend("litert").build(capture(Call(function), (noise(2, 4, 6, 4),)), HOST)
    assert reason in str(caught.value)


def test_integer_inputs_are_refused() -> None:
    with pytest.raises(CompileError, match="INT64"):
        backend("litert").build(capture(Call(lambda x: x + 1), (torch.zeros(2, 3, dtype=torch.int64),)), HOST)
