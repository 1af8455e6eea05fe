"""One fused kernel, described well enough to build and time it alone: as an operation, or as a tensor program."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

KernelOp = Literal["conv2d", "depthwise", "linear", "add", "multiply", "pool", "activation"]
KernelActivation = Literal["", "relu", "relu6"]
PoolMode = Literal["", "max", "average", "mean"]


class Kernel(Hashable, Protocol):
    """What every description of a kernel has. Equal descriptions cost the same on one device and runtime."""

    @property
    def program(self) -> Hashable:
        """What is computed, sizes left out."""
        ...

    @property
    def numbers(self) -> tuple[int, ...]:
        """All sizes. Kernels of one program have equally many, and are told apart by them."""
        ...

    def with_numbers(self, numbers: Sequence[int]) -> Self:
        """The same program at other sizes."""
        ...

    @property
    def family(self) -> Hashable:
        """What kernels have in common whose times may be interpolated."""
        ...

    @property
    def factors(self) -> tuple[float, ...]:
        """What the time within a family grows with, linearly: traffic of each operand, arithmetic."""
        ...

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one call."""
        ...

    @property
    def activation_bytes(self) -> int:
        """Bytes that one call reads and writes, weights apart."""
        ...

    @property
    def weight_count(self) -> int:
        """Number of weights."""
        ...

    @property
    def label(self) -> str:
        """Short name, unique within a runtime."""
        ...


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """One kernel as the runtime fuses it: convolution, bias (batch norm folded) and activation are one.

    height and width are those of the input in pixels (1, 1 for linear); kernel, stride, padding and dilation are
    (vertical, horizontal), padding on both sides; groups > 1 is a grouped conv2d (depthwise has its own op);
    pool_mode is set for op "pool" alone ("mean" reduces the whole image to one pixel); op "activation" is a rectifier
    by itself, as runtimes that do not fuse it run it.
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
    def program(self) -> Hashable:
        """Operation, activation, and kind of pool."""
        return (self.op, self.activation, self.pool_mode)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Channels, image, kernel, stride, padding, dilation, groups, batch."""
        plain = (self.in_channels, self.out_channels, self.height, self.width)
        return (*plain, *self.kernel, *self.stride, *self.padding, *self.dilation, self.groups, self.batch)

    def with_numbers(self, numbers: Sequence[int]) -> KernelSpec:
        """The same operation at other sizes, in the order of `numbers`."""
        ins, outs, height, width, *windows, groups, batch = numbers
        kernel, stride, padding, dilation = ((windows[k], windows[k + 1]) for k in range(0, 8, 2))
        return replace(
            self,
            in_channels=ins,
            out_channels=outs,
            height=height,
            width=width,
            kernel=kernel,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            batch=batch,
        )

    @property
    def family(self) -> KernelSpec:
        """The spec without its channel counts."""
        return replace(self, in_channels=0, out_channels=0)

    @property
    def factors(self) -> tuple[float, ...]:
        """Input channels, output channels, and their product."""
        return (self.in_channels, self.out_channels, self.in_channels * self.out_channels)

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


@dataclass(frozen=True, slots=True)
class TensorProgram:
    """One kernel as a tensor compiler made it: a function on buffers, known by its text.

    name: the operations in it; code: digest of its text with all sizes taken out; ranks: number of axes of each
    argument, outputs last; numbers: all sizes in the order of the text, which begins with the arguments' shapes.
    """

    name: str
    code: str
    ranks: tuple[int, ...]
    numbers: tuple[int, ...]

    @property
    def program(self) -> Hashable:
        """Name and text."""
        return (self.name, self.code, self.ranks)

    def with_numbers(self, numbers: Sequence[int]) -> TensorProgram:
        """The same text at other sizes."""
        return replace(self, numbers=tuple(numbers))

    @property
    def family(self) -> Hashable:
        """The text without sizes."""
        return self.program

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the arguments, outputs last."""
        found, start = [], 0
        for rank in self.ranks:
            found.append(self.numbers[start : start + rank])
            start += rank
        return tuple(found)

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def _weights(self) -> int:
        """Elements of the second argument where the first is contracted with it, else 0."""
        contracts = any(word in self.name for word in ("conv", "matmul", "dense"))
        return self._sizes[1] if contracts and len(self._sizes) > 2 else 0

    @property
    def factors(self) -> tuple[float, ...]:
        """Elements of every argument, and the arithmetic."""
        return (*map(float, self._sizes), float(self.macs))

    @property
    def macs(self) -> int:
        """Of a contraction: outputs times weights of one output (the output's last axis being the weight's)."""
        if not self.ranks:
            return 0
        outputs, channels = self._sizes[-1], max(self.shapes[-1][-1:] or (1,))
        return outputs * max(1, self._weights // channels)

    @property
    def activation_bytes(self) -> int:
        """Bytes of float32 arguments, the weights left out."""
        return 4 * (sum(self._sizes) - self._weights)

    @property
    def weight_count(self) -> int:
        """Elements of the weights."""
        return self._weights

    @property
    def label(self) -> str:
        """Name, the shapes of the arguments, and a part of the digest."""
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.name} {shapes} {self.code[:6]}"
