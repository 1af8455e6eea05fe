"""Images whose class is the direction of their stripes, and a small network that learns them in seconds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Stripes(nn.Module):
    """With batch_norm, a residual block and dropout: images (N, 1, H, W) to scores (N, 4)."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(self.drop((x + self.body(x)).mean((2, 3))))


def stripes(count: int, seed: int, pixels: int = 8) -> TensorDataset:
    """Noisy images (count, 1, pixels, pixels) and their classes (count,), 0 to 3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    along = torch.arange(float(pixels))
    row, column = torch.meshgrid(along, along, indexing="ij")
    waves = torch.stack([row, column, row + column, row - column])[labels]
    images = torch.sin(waves * 2.0 + torch.rand(count, 1, 1, generator=generator) * 6.28)
    return TensorDataset((images + 0.6 * torch.randn(count, pixels, pixels, generator=generator))[:, None], labels)


TRAIN = DataLoader(stripes(512, 1), 64)
HELD = DataLoader(stripes(256, 2), 128)


def trained(dropout: float = 0.0) -> nn.Module:
    """The network after six passes over TRAIN, in eval mode; the same one each time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Stripes(dropout)
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(6):
        for x, y in TRAIN:
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimiser.step()
    return model.eval()
