"""The kernels a subnet consists of, fused as LiteRT fuses them: what the profile stage measures one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import fx, nn

from tailorbird.compile.capture import Network, capture
from tailorbird.compile.fusion import fused_activation
from tailorbird.compile.node import arguments, aten, pair, shape_of
from tailorbird.types.kernel import KernelActivation, KernelOp, KernelSpec, PoolMode

_CONVOLUTIONS = {aten.conv2d.default, aten.conv2d.padding}
_ELEMENTWISE: dict[object, KernelOp] = {aten.add.Tensor: "add", aten.mul.Tensor: "multiply"}
_POOLS: dict[object, PoolMode] = {aten.max_pool2d.default: "max", aten.avg_pool2d.default: "average"}
_MEANS = {aten.adaptive_avg_pool2d.default, aten.mean.dim}
_ACTIVATIONS: dict[str, KernelActivation] = {"relu": "relu", "relu6": "relu6"}


def kernels_of(subnet: nn.Module | Network, example_inputs: Sequence[torch.Tensor] = ()) -> list[KernelSpec]:
    """Kernels of a subnet (or of a captured one, when there are no example inputs) in execution order.

    Convolution, batch norm and rectifier are one kernel, so are a residual addition and its rectifier. Operations that
    only move data (reshape, concatenation, padding) are no kernels of their own.

    Raises: ModelError, CompileError as capture does.
    """
    network = subnet if isinstance(subnet, Network) else capture(subnet, example_inputs)
    specs = (_kernel(node) for node in network.graph.nodes if node.op == "call_function")
    return [spec for spec in specs if spec is not None]


def _kernel(node: fx.Node) -> KernelSpec | None:
    activation = _ACTIVATIONS.get(fused_activation(node)[0], "")
    if node.target in _CONVOLUTIONS:
        return _convolution(node, activation)
    if node.target is aten.linear.default:
        outputs, inputs = shape_of(node.args[1])
        rows = math.prod(shape_of(node)[:-1])
        return KernelSpec("linear", inputs, outputs, activation=activation, batch=rows)
    if node.target in _ELEMENTWISE and len(shape_of(node)) == 4:
        batch, channels, height, width = shape_of(node)
        op = _ELEMENTWISE[node.target]
        return KernelSpec(op, channels, channels, height, width, activation=activation, batch=batch)
    if node.target in _POOLS or (node.target in _MEANS and len(shape_of(node.args[0])) == 4):
        return _pool(node)
    return None


def _convolution(node: fx.Node, activation: KernelActivation) -> KernelSpec:
    x, weight, _, stride, padding, dilation, groups = arguments(node)
    batch, channels, height, width = shape_of(x)
    outputs, _, *kernel = shape_of(weight)
    if isinstance(padding, str):  # `same` may pad one pixel more after than before: the kernel costs the same
        same = zip(kernel, pair(dilation), strict=True)
        padding = [(size - 1) * spread // 2 if padding == "same" else 0 for size, spread in same]
    depthwise = groups == channels and groups > 1
    return KernelSpec(
        op="depthwise" if depthwise else "conv2d",
        in_channels=channels,
        out_channels=outputs,
        height=height,
        width=width,
        kernel=pair(kernel),
        stride=pair(stride),
        padding=pair(padding),
        activation=activation,
        dilation=pair(dilation),
        groups=1 if depthwise else groups,
        batch=batch,
    )


def _pool(node: fx.Node) -> KernelSpec | None:
    batch, channels, height, width = shape_of(node.args[0])
    if node.target in _MEANS:
        shape = shape_of(node)
        if shape[:2] != (batch, channels) or any(extent != 1 for extent in shape[2:]):
            return None
        return KernelSpec("pool", channels, channels, height, width, pool_mode="mean", batch=batch)
    _, window, step, sides, *_ = arguments(node)
    kernel, stride, padding = pair(window), pair(step or window), pair(sides)
    mode = _POOLS[node.target]
    return KernelSpec("pool", channels, channels, height, width, kernel, stride, padding, pool_mode=mode, batch=batch)
