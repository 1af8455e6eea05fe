"""KernelSpec: one fused kernel, described well enough to build and time it alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

KernelOp = Literal["conv2d", "depthwise", "linear", "add", "multiply", "pool"]
KernelActivation = Literal["", "relu", "relu6"]
PoolMode = Literal["", "max", "average", "mean"]


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One kernel as the runtime fuses it: convolution, bias (batch norm folded) and activation are one.

    height and width are those of the input in pixels (1, 1 for linear); kernel, stride, padding and dilation are
    (vertical, horizontal), padding on both sides; groups > 1 is a grouped conv2d (depthwise has its own op);
    pool_mode is set for op "pool" alone ("mean" reduces the whole image to one pixel).
    Equal specs cost the same on one device: the profile stage measures each distinct spec once.
    """

    op: KernelOp
    in_channels: int
    out_channels: int
    height: int = 1
    width: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    activation: KernelActivation = ""
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool_mode: PoolMode = ""
    batch: int = 1

    @property
    def output_size(self) -> tuple[int, int]:
        """(height, width) of the output."""
        if self.op == "pool" and self.pool_mode == "mean":
            return (1, 1)
        if self.op not in {"conv2d", "depthwise", "pool"}:
            return (self.height, self.width)
        sizes = (
            (extent + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for extent, pad, dilation, kernel, stride in zip(
                (self.height, self.width), self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )
        height, width = sizes
        return (height, width)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call (additions, for the operations that do not multiply)."""
        outputs = self.batch * self.out_channels * math.prod(self.output_size)
        if self.op == "conv2d":
            return outputs * math.prod(self.kernel) * self.in_channels // self.groups
        if self.op == "linear":
            return outputs * self.in_channels
        if self.op == "pool":
            window = self.height * self.width if self.pool_mode == "mean" else math.prod(self.kernel)
            return outputs * window
        return outputs * math.prod(self.kernel)

    @property
    def weight_count(self) -> int:
        """Number of weights and biases."""
        if self.op == "conv2d":
            return self.out_channels * (math.prod(self.kernel) * self.in_channels // self.groups + 1)
        if self.op == "depthwise":
            return self.out_channels * (math.prod(self.kernel) + 1)
        if self.op == "linear":
            return self.out_channels * (self.in_channels + 1)
        return 0

    @property
    def activation_bytes(self) -> int:
        """Bytes of float32 inputs and outputs that one call reads and writes."""
        inputs = self.in_channels * self.height * self.width * (2 if self.op in {"add", "multiply"} else 1)
        return 4 * self.batch * (inputs + self.out_channels * math.prod(self.output_size))

    @property
    def label(self) -> str:
        """Short unique name: `conv2d n1 c32>64 32x32 k3x3 s1x1 p1x1 relu`."""
        parts = [self.op, f"n{self.batch}", f"c{self.in_channels}>{self.out_channels}", f"{self.height}x{self.width}"]
        if self.op in {"conv2d", "depthwise", "pool"} and self.pool_mode != "mean":
            parts += [
                f"{letter}{a}x{b}"
                for letter, (a, b) in zip("ksp", (self.kernel, self.stride, self.padding), strict=True)
            ]
        if self.dilation != (1, 1):
            parts.append(f"d{self.dilation[0]}x{self.dilation[1]}")
        if self.groups != 1:
            parts.append(f"g{self.groups}")
        parts += [text for text in (self.pool_mode, self.activation) if text]
        return " ".join(parts)
