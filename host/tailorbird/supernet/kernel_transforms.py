"""Kernel transforms: what makes the centre of a large kernel a good small kernel.

Once-for-All (Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020,
section 3.3): the centre of the next larger kernel, flattened, times a learnt matrix that all channels share; 7 becomes
5, then 5 becomes 3. Each matrix is kept as its difference from the identity, so that an untrained one is the plain
centre crop to the last bit in every arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tailorbird.graph import Kernel
from tailorbird.supernet.selection import Cuts, cut, like_weight

_LARGEST_MATRIX = 128  # entries of a flattened kernel; beyond (13x13 squares to 28,561) the crop stays plain


@dataclass(frozen=True, slots=True)
class Step:
    """From one kernel size to the next smaller one: the shape it gives, and which matrix it takes, if any."""

    shape: tuple[int, ...]
    matrix: int | None


class KernelTransforms(nn.Module):
    """One matrix for each elastic kernel and each of its sizes but the full one."""

    def __init__(self, kernels: Iterable[tuple[Kernel, tuple[int, ...]]], weights: dict[str, Tensor]) -> None:
        """kernels: with the sizes offered, rising; weights: by name, for dtype and device."""
        super().__init__()
        self.matrices = nn.ParameterList()
        self._chains: dict[str, tuple[Step, ...]] = {}
        for kernel, choices in kernels:
            self._chains[kernel.weight] = tuple(
                self._step(kernel.shape(size), weights[kernel.weight]) for size in reversed(choices[:-1])
            )

    @property
    def weights(self) -> Collection[str]:
        """Names of the elastic kernels."""
        return self._chains

    def _step(self, shape: tuple[int, ...], weight: Tensor) -> Step:
        entries = math.prod(shape)
        if entries > _LARGEST_MATRIX:
            return Step(shape, None)
        zero = torch.zeros(entries, entries, dtype=weight.dtype, device=weight.device)
        self.matrices.append(nn.Parameter(zero, requires_grad=weight.requires_grad))
        return Step(shape, len(self.matrices) - 1)

    def forward(self, name: str, weight: Tensor, cuts: Cuts) -> Tensor:
        """A stored tensor as a subnet has it. Of an elastic kernel (O, I, kH, kW), `cuts` name the channels to keep
        and the centre of its axes; every other tensor is just cut."""
        inner = tuple(item for item in cuts if item[0] >= 2) if name in self._chains else ()
        if not inner:
            return cut(weight, cuts)
        result = cut(weight, tuple(item for item in cuts if item[0] < 2))
        wanted = list(weight.shape[2:])
        for axis, kept in inner:
            wanted[axis - 2] = len(kept)
        for step in self._chains[name]:
            for axis, size in enumerate(step.shape, start=2):
                result = result.narrow(axis, (result.shape[axis] - size) // 2, size)
            if step.matrix is not None:
                flat = result.reshape(-1, math.prod(step.shape))
                result = (flat + torch.mm(flat, self.matrices[step.matrix].t())).reshape(result.shape)
            if list(step.shape) == wanted:
                break
        return like_weight(result.contiguous(), weight)
