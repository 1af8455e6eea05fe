"""Precision: which number format and memory format a training step computes in. Weights keep their own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tailorbird.supernet.training.recipe import Recipe

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


class Precision:
    """Autocast, loss scaling for half precision, and channels_last, as the recipe and the device want them."""

    def __init__(self, recipe: Recipe, net: SuperNet) -> None:
        device = net.device
        self.name = _automatic(net, device) if recipe.precision == "auto" else recipe.precision
        self._device = device
        #: On a CPU channels_last makes convolutions with cut weights slower, or wrong (torch 2.13).
        self.channels_last = device.type == "cuda" if recipe.channels_last is None else recipe.channels_last
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.name == "float16")

    def computing(self) -> AbstractContextManager[object]:
        """The context of a forward pass."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=getattr(torch, self.name))

    def laid_out(self, x: Tensor) -> Tensor:
        """An input in the memory format."""
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last and x.ndim == 4 else x


def _automatic(net: nn.Module, device: torch.device) -> str:
    """bfloat16 where the device computes it natively: half the time, and no scaling. Weights of another precision than
    single are the user's choice, which autocast would mix with its own.
    """
    if any(p.is_floating_point() and p.dtype != torch.float32 for p in net.parameters()):
        return "float32"
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"
    return "float32"
