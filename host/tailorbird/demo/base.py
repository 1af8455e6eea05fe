"""Training the demo's own network, as its user would have done before meeting Tailorbird."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from tailorbird.cache import StageResult
from tailorbird.flow.data import Splits
from tailorbird.flow.network import load_weights
from tailorbird.flow.source import Source, source_sha256
from tailorbird.flow.workspace import Note, Workspace, silent

_BATCH = 24
_PEAK_RATE = 5e-3
_WARM_UP = 0.15


def train_base(
    workspace: Workspace, splits: Splits, *, source: Source, steps: int, note: Note = silent
) -> tuple[nn.Module, StageResult]:
    """A trained network of this source in eval mode, from the cache when it was trained before."""
    seed = workspace.settings.seed
    inputs = {
        "source": source_sha256(source),
        "factory": str(source),
        "trainer": source_sha256(Source.parse("tailorbird.demo.base:train_base")),
        "data": splits.sha256(),
        "steps": steps,
        "seed": seed,
    }

    def build(folder: Path) -> None:
        from safetensors.torch import save_file

        net = _train(source, splits, steps, seed, note)
        save_file(
            {name: value.contiguous() for name, value in net.state_dict().items()}, str(folder / "weights.safetensors")
        )

    result = workspace.cache.run("base", inputs, build)
    net = source.load()()
    load_weights(net, result.folder / "weights.safetensors")
    return net.eval(), result


def _train(source: Source, splits: Splits, steps: int, seed: int, note: Note) -> nn.Module:
    images, labels = splits.train
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = source.load()().train()
    pick = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=_PEAK_RATE, weight_decay=0.01)
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = _PEAK_RATE * min(1.0, share / _WARM_UP + 0.05) * 0.5 * (1 + math.cos(math.pi * share))
        rows = torch.randint(0, len(labels), (_BATCH,), generator=pick)
        loss = functional.cross_entropy(net(images[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        note(f"step {step + 1} of {steps}, loss {float(loss.detach()):.3f}")
    return net


@torch.no_grad()
def accuracy_of(net: nn.Module, split: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Top-1 accuracy of a network on a split, a fraction."""
    right = sum(int((net(x).argmax(1) == y).sum()) for x, y in zip(*(part.split(200) for part in split), strict=True))
    return right / len(split[1])
