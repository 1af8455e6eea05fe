"""How each aten operation is written. Importing this module fills the table in lowering.py."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from torch import fx

from tailorbird.compile.fusion import activation_name
from tailorbird.compile.litert import layers
from tailorbird.compile.litert.flatbuffer import Operator
from tailorbird.compile.litert.lowering import Lowering, emits, is_non_negative, stored_axis
from tailorbird.compile.node import arguments, aten, pair, shape_of

_ARITHMETIC = {
    aten.add.Tensor: Operator.ADD,
    aten.sub.Tensor: Operator.SUB,
    aten.mul.Tensor: Operator.MUL,
    aten.div.Tensor: Operator.DIV,
}
_UNARY = {
    aten.sigmoid.default: Operator.LOGISTIC,
    aten.tanh.default: Operator.TANH,
    aten.hardswish.default: Operator.HARD_SWISH,
    aten.exp.default: Operator.EXP,
    aten.sqrt.default: Operator.SQRT,
    aten.rsqrt.default: Operator.RSQRT,
    aten.neg.default: Operator.NEG,
}
_FUSED_CODES = {"relu": Operator.RELU, "relu6": Operator.RELU6, "relu_n1_to_1": Operator.RELU_N1_TO_1}


@emits(aten.conv2d.default, aten.conv2d.padding, fuses=True)
def _conv2d(lowering: Lowering, node: fx.Node) -> int:
    x, weight, bias, stride, padding, dilation, groups = arguments(node)
    kernel = lowering.constant(weight)
    offsets = np.zeros(kernel.shape[0], np.float32) if bias is None else lowering.constant(bias)
    spread = pair(dilation)
    if isinstance(padding, str):
        totals = [(size - 1) * d if padding == "same" else 0 for size, d in zip(kernel.shape[2:], spread, strict=True)]
        sides = tuple((total // 2, total - total // 2) for total in totals)
    else:
        sides = tuple((amount, amount) for amount in pair(padding))
    return layers.convolution(
        lowering.file,
        lowering.stored(x),
        kernel,
        offsets,
        stride=pair(stride),
        padding=(sides[0], sides[1]),
        dilation=spread,
        groups=groups,
        activation=lowering.activation,
    )


@emits(aten.linear.default, fuses=True)
def _linear(lowering: Lowering, node: fx.Node) -> int:
    x, weight, bias = arguments(node)
    offsets = None if bias is None else lowering.constant(bias)
    value = layers.linear(lowering.file, lowering.logical(x), lowering.constant(weight), offsets, lowering.activation)
    return lowering.store(value)


@emits(*_ARITHMETIC, fuses=True)
def _arithmetic(lowering: Lowering, node: fx.Node) -> int:
    left, right, *alpha = arguments(node)
    rank, scale = len(shape_of(node)), alpha[0] if alpha else 1
    second = lowering.operand(right, rank)
    if scale != 1:
        second = layers.binary(lowering.file, Operator.MUL, second, lowering.operand(scale, rank))
    first = lowering.operand(left, rank)
    return layers.binary(lowering.file, _ARITHMETIC[node.target], first, second, lowering.activation)


@emits(aten.relu.default, aten.relu6.default, aten.hardtanh.default, aten.clamp.default)
def _rectifier(lowering: Lowering, node: fx.Node) -> int:
    name = activation_name(node)
    if not name:
        raise ValueError(f"TFLite has no clamp with the bounds {node.args[1:]}")
    x = lowering.stored(node.args[0])
    return lowering.file.operator(_FUSED_CODES[name], [x], lowering.file.shape(x))


@emits(*_UNARY)
def _unary(lowering: Lowering, node: fx.Node) -> int:
    return _pointwise(lowering, _UNARY[node.target], lowering.stored(node.args[0]))


@emits(aten.silu.default)
def _silu(lowering: Lowering, node: fx.Node) -> int:
    x = lowering.stored(node.args[0])
    return layers.binary(lowering.file, Operator.MUL, x, _pointwise(lowering, Operator.LOGISTIC, x))


@emits(aten.hardsigmoid.default)
def _hardsigmoid(lowering: Lowering, node: fx.Node) -> int:
    three, sixth = (lowering.operand(value, 0) for value in (3.0, 1.0 / 6.0))
    clipped = layers.binary(lowering.file, Operator.ADD, lowering.stored(node.args[0]), three, "relu6")
    return layers.binary(lowering.file, Operator.MUL, clipped, sixth)


@emits(aten.leaky_relu.default)
def _leaky_relu(lowering: Lowering, node: fx.Node) -> int:
    x, slope = arguments(node)
    options = schema.LeakyReluOptionsT()
    options.alpha = float(slope)
    return _pointwise(lowering, Operator.LEAKY_RELU, lowering.stored(x), options)


@emits(aten.gelu.default)
def _gelu(lowering: Lowering, node: fx.Node) -> int:
    options = schema.GeluOptionsT()
    x, approximate = arguments(node)
    options.approximate = approximate == "tanh"
    return _pointwise(lowering, Operator.GELU, lowering.stored(x), options)


@emits(aten.softmax.int)
def _softmax(lowering: Lowering, node: fx.Node) -> int:
    x, axis, *_ = arguments(node)
    rank = len(shape_of(node))
    if stored_axis(axis, rank) != rank - 1:
        raise ValueError("TFLite's softmax works on the last stored axis")
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return _pointwise(lowering, Operator.SOFTMAX, lowering.stored(x), options)


@emits(aten.max_pool2d.default)
def _max_pool(lowering: Lowering, node: fx.Node) -> int:
    x, kernel, stride, padding, dilation, ceil = arguments(node)
    if pair(dilation) != (1, 1):
        raise ValueError("TFLite has no dilated pooling")
    window, step, sides = _window(kernel, stride, padding)
    _reject_ceil(node, ceil, window, step, sides)
    # Below a rectifier zero is as good a border as minus infinity, and XNNPACK runs that padding.
    border = 0.0 if is_non_negative(x) else float(np.finfo(np.float32).min)
    return layers.pool(lowering.file, lowering.stored(x), Operator.MAX_POOL_2D, window, step, sides, border=border)


@emits(aten.avg_pool2d.default)
def _avg_pool(lowering: Lowering, node: fx.Node) -> int:
    x, kernel, stride, padding, ceil, include, divisor = arguments(node)
    window, step, sides = _window(kernel, stride, padding)
    _reject_ceil(node, ceil, window, step, sides)
    if divisor is not None:
        raise ValueError("TFLite has no average with another divisor")
    border = 0.0 if include else None
    return layers.pool(lowering.file, lowering.stored(x), Operator.AVERAGE_POOL_2D, window, step, sides, border=border)


@emits(aten.adaptive_avg_pool2d.default)
def _adaptive_avg_pool(lowering: Lowering, node: fx.Node) -> int:
    x, size = lowering.stored(node.args[0]), shape_of(node)[-2:]
    if size == (1, 1):
        return layers.mean(lowering.file, x, (1, 2), keep=True)
    _, height, width, _ = lowering.file.shape(x)
    if height % size[0] or width % size[1]:
        raise ValueError(f"windows of different sizes, from {height}x{width} to {size[0]}x{size[1]}")
    step = (height // size[0], width // size[1])
    return layers.pool(lowering.file, x, Operator.AVERAGE_POOL_2D, step, step)


@emits(aten.upsample_bilinear2d.vec)
def _resize(lowering: Lowering, node: fx.Node) -> int:
    x, _, align_corners, scales = arguments(node)
    batch, channels, height, width = shape_of(node)
    old = shape_of(x)[-2:]
    if scales is not None and any(s * e != n for s, e, n in zip(scales, old, (height, width), strict=True)):
        raise ValueError(f"resizing by {list(scales)}, which is not the ratio of the sizes")
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = bool(align_corners), not align_corners
    size = lowering.file.constant(np.array([height, width], np.int32))
    shape = (batch, height, width, channels)
    return lowering.file.operator(
        Operator.RESIZE_BILINEAR, [lowering.stored(x), size], shape, options=options, version=3
    )


@emits(aten.mean.dim)
def _mean(lowering: Lowering, node: fx.Node) -> int:
    x, axes, keep, _ = arguments(node)
    rank = len(shape_of(x))
    axes = axes or range(rank)
    stored = sorted(stored_axis(axis, rank) for axis in axes)
    if keep:
        return layers.mean(lowering.file, lowering.stored(x), stored, keep=True)
    if rank == 4 and stored != [1, 2]:  # what is left of the stored axes must be in torch's order
        logical = sorted(axis % 4 for axis in axes)
        return lowering.store(layers.mean(lowering.file, lowering.logical(x), logical, keep=False))
    return lowering.store(layers.mean(lowering.file, lowering.stored(x), stored, keep=False))


@emits(
    aten.view.default,
    aten.reshape.default,
    aten.flatten.using_ints,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.unsqueeze.default,
)
def _reshape(lowering: Lowering, node: fx.Node) -> int:
    return lowering.store(layers.reshape(lowering.file, lowering.logical(node.args[0]), shape_of(node)))


@emits(aten.permute.default, aten.transpose.int)
def _permute(lowering: Lowering, node: fx.Node) -> int:
    x, *axes = arguments(node)
    rank = len(shape_of(x))
    if node.target is aten.transpose.int:
        order = list(range(rank))
        first, second = (int(axis) % rank for axis in axes)
        order[first], order[second] = second, first
    else:
        order = [axis % rank for axis in axes[0]]
    return lowering.store(layers.transpose(lowering.file, lowering.logical(x), order))


@emits(aten.cat.default)
def _cat(lowering: Lowering, node: fx.Node) -> int:
    parts, axis = arguments(node)
    options = schema.ConcatenationOptionsT()
    rank = len(shape_of(node))
    options.axis = stored_axis(axis, rank)
    operands = [lowering.stored(part) for part in parts]
    return lowering.file.operator(Operator.CONCATENATION, operands, _stored_shape(node), options=options)


@emits(aten.pad.default, aten.constant_pad_nd.default)
def _pad(lowering: Lowering, node: fx.Node) -> int:
    if node.target is aten.pad.default:
        x, amounts, mode, value = arguments(node)
    else:
        (x, amounts, value), mode = arguments(node), "constant"
    if mode != "constant" or min(amounts) < 0:
        raise ValueError(f"padding {list(amounts)} in mode {mode}")
    rank = len(shape_of(x))
    sides = [(0, 0)] * rank
    for position in range(len(amounts) // 2):  # torch lists the last axis first
        sides[stored_axis(rank - 1 - position, rank)] = (amounts[2 * position], amounts[2 * position + 1])
    return layers.pad(lowering.file, lowering.stored(x), sides, float(value or 0.0))


@emits(aten.slice.Tensor)
def _slice(lowering: Lowering, node: fx.Node) -> int:
    x, axis, start, end, step = arguments(node)
    extent = shape_of(x)[axis]
    start, end, step = slice(start, end, step).indices(extent)
    value, place = lowering.stored(x), stored_axis(axis, len(shape_of(x)))
    if (start, end, step) == (0, extent, 1):  # `x[:, :, ::2]` says so of its first two axes
        return value
    shape = lowering.file.shape(value)
    if step > 1 and len(shape) == 4 and place in {1, 2} and shape[3] > 1 and lowering.file.dtype(value) == "float32":
        if (start, end) != (0, extent):
            value = _strided_slice(lowering, value, place, start, end, 1)
        return layers.thin(lowering.file, value, place, step)
    return _strided_slice(lowering, value, place, start, end, step)


@emits(aten.select.int)
def _select(lowering: Lowering, node: fx.Node) -> int:
    x, axis, index = arguments(node)
    rank, axis = len(shape_of(x)), axis % len(shape_of(x))
    position = index % shape_of(x)[axis]
    one = _strided_slice(lowering, lowering.logical(x), axis, position, position + 1, 1)
    assert rank > 1
    return lowering.store(layers.reshape(lowering.file, one, shape_of(node)))


@emits(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default)
def _split(lowering: Lowering, node: fx.Node) -> int:
    x, _, axis = arguments(node)
    rank, index = len(shape_of(x)), lowering.stored(x)
    parts, start = [], 0
    for value in node.meta["val"]:
        end = start + value.shape[axis]
        parts.append(_strided_slice(lowering, index, stored_axis(axis, rank), start, end, 1))
        start = end
    lowering.set_parts(node, parts)
    return index


@emits(operator.getitem)
def _getitem(lowering: Lowering, node: fx.Node) -> int:
    source, position = node.args
    assert isinstance(position, int)
    return lowering.part(source, position)


@emits(
    aten.dropout.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
)
def _same(lowering: Lowering, node: fx.Node) -> int:
    return lowering.stored(node.args[0])


def _pointwise(lowering: Lowering, code: int, x: int, options: object | None = None) -> int:
    return lowering.file.operator(code, [x], lowering.file.shape(x), options=options)


def _strided_slice(lowering: Lowering, x: int, axis: int, start: int, end: int, step: int) -> int:
    shape = list(lowering.file.shape(x))
    begins, ends, steps = [0] * len(shape), list(shape), [1] * len(shape)
    begins[axis], ends[axis], steps[axis] = start, end, step
    shape[axis] = len(range(start, end, step))
    operands = [x, *(lowering.file.constant(np.array(values, np.int32)) for values in (begins, ends, steps))]
    return lowering.file.operator(Operator.STRIDED_SLICE, operands, shape, options=schema.StridedSliceOptionsT())


def _stored_shape(node: fx.Node) -> Sequence[int]:
    shape = shape_of(node)
    return [shape[axis] for axis in (0, 2, 3, 1)] if len(shape) == 4 else shape


def _window(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[tuple[int, int], tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    vertical, horizontal = pair(padding)
    return pair(kernel), pair(stride or kernel), ((vertical, vertical), (horizontal, horizontal))


def _reject_ceil(
    node: fx.Node, ceil: object, kernel: tuple[int, int], stride: tuple[int, int], padding: Sequence[tuple[int, int]]
) -> None:
    extents = shape_of(node.args[0])[-2:]
    floor: Callable[..., int] = layers.window_extent
    expected = tuple(floor(*axis) for axis in zip(extents, kernel, stride, padding, strict=True))
    if ceil and expected != shape_of(node)[-2:]:
        raise ValueError("ceil_mode makes windows that hang over the edge")
