"""Layers in TFLite's own layout (N, H, W, C), written into a TfliteFile: for whole networks and single kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tailorbird.compile.litert.flatbuffer import Activation, Operator, Padding, TfliteFile

#: Activations TFLite can fuse into convolution, linear, add and multiply.
FUSED = {
    "": Activation.NONE,
    "relu": Activation.RELU,
    "relu6": Activation.RELU6,
    "relu_n1_to_1": Activation.RELU_N1_TO_1,
}

Pair = tuple[int, int]


def window_extent(extent: int, kernel: int, stride: int, padding: Pair, dilation: int = 1) -> int:
    """Output extent of a sliding window along one axis, with explicit padding (before, after)."""
    return (extent + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


def pad_spatial(file: TfliteFile, x: int, vertical: Pair, horizontal: Pair, value: float = 0.0) -> int:
    """Pad height and width with a constant."""
    return pad(file, x, ((0, 0), vertical, horizontal, (0, 0)), value)


def pad(file: TfliteFile, x: int, amounts: Sequence[Pair], value: float = 0.0) -> int:
    """Pad every axis with (before, after); XNNPACK fuses zero padding into the convolution that follows."""
    shape = [extent + before + after for extent, (before, after) in zip(file.shape(x), amounts, strict=True)]
    paddings = file.constant(np.array(amounts, np.int32))
    if value == 0.0:
        return file.operator(Operator.PAD, [x, paddings], shape, options=schema.PadOptionsT())
    fill = file.constant(np.array([value], np.float32))
    return file.operator(Operator.PADV2, [x, paddings, fill], shape, options=schema.PadV2OptionsT())


def convolution(
    file: TfliteFile,
    x: int,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str = "",
) -> int:
    """conv2d with torch's weight (O, I / groups, kH, kW) on x (N, H, W, C); returns (N, H', W', O)."""
    outputs, kernel = weight.shape[0], (weight.shape[2], weight.shape[3])
    x, mode = _window_padding(file, x, kernel, stride, padding, dilation)
    batch, height, width, channels = file.shape(x)
    extents = [
        -(-extent // step) if mode == Padding.SAME else window_extent(extent, size, step, (0, 0), spread)
        for extent, size, step, spread in zip((height, width), kernel, stride, dilation, strict=True)
    ]
    depthwise = groups == channels and weight.shape[1] == 1 and groups > 1
    if depthwise:
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = outputs // channels
        kernels = weight.transpose(1, 2, 3, 0)
    else:
        options = schema.Conv2DOptionsT()
        kernels = weight.transpose(0, 2, 3, 1)
    options.padding = mode
    options.strideH, options.strideW = stride
    options.dilationHFactor, options.dilationWFactor = dilation
    options.fusedActivationFunction = FUSED[activation]
    return file.operator(
        Operator.DEPTHWISE_CONV_2D if depthwise else Operator.CONV_2D,
        [x, file.constant(kernels), file.constant(bias)],
        [batch, *extents, outputs],
        options=options,
        version=2 if depthwise and dilation != (1, 1) else 1,
    )


def pool(
    file: TfliteFile,
    x: int,
    code: int,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    *,
    border: float | None = None,
) -> int:
    """max_pool2d or avg_pool2d (code). `border` is what padding holds; None: padding takes no part, as TFLite's SAME.

    Raises ValueError when padding that takes no part cannot be written as SAME.
    """
    if border is not None and padding != ((0, 0), (0, 0)):
        x, mode = pad_spatial(file, x, *padding, border), Padding.VALID
    elif padding == ((0, 0), (0, 0)):
        mode = Padding.VALID
    elif padding == _same_padding(file, x, kernel, stride, (1, 1)):
        mode = Padding.SAME
    else:
        raise ValueError(f"padding {padding} differs from TFLite's SAME")
    batch, height, width, channels = file.shape(x)
    extents = [
        -(-extent // step) if mode == Padding.SAME else window_extent(extent, size, step, (0, 0))
        for extent, size, step in zip((height, width), kernel, stride, strict=True)
    ]
    options = schema.Pool2DOptionsT()
    options.padding = mode
    options.filterHeight, options.filterWidth = kernel
    options.strideH, options.strideW = stride
    return file.operator(code, [x], [batch, *extents, channels], options=options)


def thin(file: TfliteFile, x: int, axis: int, step: int) -> int:
    """Every step-th row (axis 1) or column (axis 2) of x (N, H, W, C), C above 1.

    Written as a depthwise convolution by 1, which XNNPACK runs; a strided slice it leaves to a slow reference kernel.
    """
    channels = file.shape(x)[3]
    stride = (step, 1) if axis == 1 else (1, step)
    ones, zeros = np.ones((channels, 1, 1, 1), np.float32), np.zeros(channels, np.float32)
    return convolution(file, x, ones, zeros, stride=stride, groups=channels)


def mean(file: TfliteFile, x: int, axes: Sequence[int], *, keep: bool) -> int:
    """Mean over axes of the stored layout."""
    options = schema.ReducerOptionsT()
    options.keepDims = keep
    shape = [1 if axis in axes else extent for axis, extent in enumerate(file.shape(x)) if keep or axis not in axes]
    return file.operator(Operator.MEAN, [x, file.constant(np.array(axes, np.int32))], shape, options=options)


def linear(file: TfliteFile, x: int, weight: np.ndarray, bias: np.ndarray | None, activation: str = "") -> int:
    """Fully connected layer on the last axis; weight (O, I)."""
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = FUSED[activation]
    options.keepNumDims = len(file.shape(x)) > 2
    zeros = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    operands = [x, file.constant(weight), file.constant(zeros)]
    shape = [*file.shape(x)[:-1], weight.shape[0]]
    return file.operator(Operator.FULLY_CONNECTED, operands, shape, options=options)


def binary(file: TfliteFile, code: int, left: int, right: int, activation: str = "") -> int:
    """Broadcasting add, subtract, multiply or divide."""
    options = {
        Operator.ADD: schema.AddOptionsT,
        Operator.SUB: schema.SubOptionsT,
        Operator.MUL: schema.MulOptionsT,
        Operator.DIV: schema.DivOptionsT,
    }[code]()
    options.fusedActivationFunction = FUSED[activation]
    shape = np.broadcast_shapes(file.shape(left), file.shape(right))
    return file.operator(code, [left, right], shape, options=options)


def reshape(file: TfliteFile, x: int, shape: Sequence[int]) -> int:
    """The same elements in another shape."""
    if tuple(shape) == file.shape(x):
        return x
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return file.operator(Operator.RESHAPE, [x, file.constant(np.array(shape, np.int32))], shape, options=options)


def transpose(file: TfliteFile, x: int, order: Sequence[int]) -> int:
    """Permute axes; a reshape where only axes of extent 1 move."""
    shape = file.shape(x)
    permuted = [shape[axis] for axis in order]
    kept = [axis for axis in order if shape[axis] != 1]
    if kept == sorted(kept):
        return reshape(file, x, permuted)
    operands = [x, file.constant(np.array(order, np.int32))]
    return file.operator(Operator.TRANSPOSE, operands, permuted, options=schema.TransposeOptionsT())


def _window_padding(
    file: TfliteFile, x: int, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
) -> tuple[int, int]:
    """Express explicit zero padding as VALID, as SAME where that is the same, or as a pad operator first."""
    if padding == ((0, 0), (0, 0)):
        return x, Padding.VALID
    if padding == _same_padding(file, x, kernel, stride, dilation):
        return x, Padding.SAME
    return pad_spatial(file, x, *padding), Padding.VALID


def _same_padding(file: TfliteFile, x: int, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """What TensorFlow's SAME pads: (ceil(h / s) - 1) s + (k - 1) d + 1 - h in all, the odd pixel after.

    At stride 2 that is seldom torch's symmetric padding.
    """
    _, height, width, _ = file.shape(x)
    amounts = []
    for extent, size, step, spread in zip((height, width), kernel, stride, dilation, strict=True):
        total = max((-(-extent // step) - 1) * step + (size - 1) * spread + 1 - extent, 0)
        amounts.append((total // 2, total - total // 2))
    return amounts[0], amounts[1]
