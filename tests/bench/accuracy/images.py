"""The images of a network: some to train on, and held-out ones in an order drawn once."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tailorbird.demo.data import digits as bundled_digits
from tests.bench.accuracy.work import write

_ORDER_SEED = 2026
_EVALUATION_BATCH = 250

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Pixels (N, C, H, W) as uint8 and labels (N,). The network takes (pixels / 255 - mean) / std.

    held: images no weight has seen, already in their order. evaluation: how many of them come first and are for
    evaluation alone; fold: how many each fold of validation images holds. shift: pixels of padding around a training
    image before it is cropped; mirrored: a mirror image shows the same.
    """

    train: Batch
    held: Batch
    mean: tuple[float, ...]
    std: tuple[float, ...]
    evaluation: int
    fold: int
    shift: int
    mirrored: bool

    def validation(self, seed: int) -> slice:
        """The held-out images that a predictor seed may look at, labels and all."""
        start = self.evaluation + seed * self.fold
        if start + self.fold > len(self.held[1]):
            raise ValueError(f"there is no fold {seed} of {self.fold} among {len(self.held[1])} images")
        return slice(start, start + self.fold)

    def unseen(self, seed: int, among: int) -> np.ndarray:
        """Which of the first `among` held-out images neither a predictor seed nor training looked at, (among,)."""
        mask = np.ones(among, dtype=bool)
        for fold in {0, seed}:
            mask[self.validation(fold)] = False
        return mask

    def held_batches(self, part: slice, batch: int = _EVALUATION_BATCH) -> Batches:
        """Held-out images, as they are."""
        return Batches(self, (self.held[0][part], self.held[1][part]), batch)

    def recalibration(self, count: int) -> Batches:
        """Training images cropped and mirrored as for training, the same ones each time, drawn once.

        Weights fit the statistics they were trained with: those of images as they are cost subnets 2 to 7 points.
        """
        random = torch.Generator().manual_seed(_ORDER_SEED)
        rows = torch.randperm(len(self.train[1]), generator=random)[:count]
        pixels = augmented(self.train[0][rows], random, shift=self.shift, mirror=self.mirrored)
        return Batches(self, (pixels, self.train[1][rows]), _EVALUATION_BATCH)

    def training(self, batch: int, seed: int) -> Batches:
        """All training images, shuffled, each cropped anew and mirrored half the time."""
        return Batches(self, self.train, batch, seed)

    def normalised(self, pixels: Tensor) -> Tensor:
        """What the network takes, (N, C, H, W) float32."""
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).contiguous()


class Batches:
    """Normalised images and labels in batches, to be read as often as needed.

    With a seed each epoch has an order and crops of its own, all drawn from (seed, epoch). An epoch is counted each
    time the batches are read; `set_epoch` says which one comes next, as torch's DistributedSampler has it.
    """

    def __init__(self, images: Images, part: Batch, size: int, seed: int | None = None) -> None:
        self._images, self._part, self._size, self._seed = images, part, size, seed
        self._epoch = 0

    def __len__(self) -> int:
        whole = self._seed is not None  # a training batch is never a small remainder
        return len(self._part[1]) // self._size if whole else math.ceil(len(self._part[1]) / self._size)

    def set_epoch(self, epoch: int) -> None:
        """Read this epoch next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        pixels, labels = self._part
        if self._seed is None:
            for x, y in zip(pixels.split(self._size), labels.split(self._size), strict=True):
                yield self._images.normalised(x), y
            return
        random = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        self._epoch += 1
        order = torch.randperm(len(labels), generator=random)
        for rows in order.split(self._size)[: len(self)]:
            moved = augmented(pixels[rows], random, shift=self._images.shift, mirror=self._images.mirrored)
            yield self._images.normalised(moved), labels[rows]


def augmented(pixels: Tensor, random: torch.Generator, *, shift: int, mirror: bool) -> Tensor:
    """Each image padded with black by `shift` pixels and cropped at a place of its own; half of them mirrored.

    With a shift of 4 and mirrored, this is what the networks were trained with (He et al. 2015, section 4.2).
    """
    count, _, height, width = pixels.shape
    padded = functional.pad(pixels, (shift,) * 4)
    top, left = torch.randint(0, 2 * shift + 1, (2, count, 1), generator=random)
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    flipped = torch.rand((count, 1), generator=random) < 0.5
    if mirror:
        columns = torch.where(flipped, columns.flip(1), columns)
    cut = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def cifar10(data: Path, work: Path) -> Images:
    """CIFAR-10 from DATA/cifar10.zip, decoded once into the work folder; 2,000 for evaluation, folds of 2,000."""
    decoded = work / "cifar10.npz"
    if not decoded.is_file():
        work.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        with zipfile.ZipFile(data / "cifar10.zip") as files:
            np.savez(buffer, **_decoded(files))
        write(decoded, buffer.getvalue())
    with np.load(decoded) as arrays:
        parts = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    order = torch.randperm(len(parts["test_y"]), generator=torch.Generator().manual_seed(_ORDER_SEED))
    return Images(
        train=(parts["train_x"], parts["train_y"]),
        held=(parts["test_x"][order], parts["test_y"][order]),
        mean=(0.485, 0.456, 0.406),  # what the published weights were trained with
        std=(0.229, 0.224, 0.225),
        evaluation=2000,
        fold=2000,
        shift=4,
        mirrored=True,
    )


def _decoded(files: zipfile.ZipFile) -> dict[str, np.ndarray]:
    from PIL import Image

    found: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        names = sorted(n for n in files.namelist() if n.split("/")[-3:-2] == [part] and n.endswith(".png"))
        classes = sorted({name.split("/")[-2] for name in names})
        if len(classes) != 10:
            raise ValueError(f"{files.filename} holds {len(classes)} classes in {part}/<class>/*.png, not 10")
        pixels = [np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for name in names]
        found[f"{part}_x"] = np.ascontiguousarray(np.stack(pixels).transpose(0, 3, 1, 2))
        found[f"{part}_y"] = np.array([classes.index(name.split("/")[-2]) for name in names])
    return found


def digits() -> Images:
    """scikit-learn's digits at their own 8x8, bundled: 997 to train on, 800 held out, half of them for evaluation."""
    splits = bundled_digits()

    def small(images: Tensor) -> Tensor:
        return ((functional.avg_pool2d(images, 4) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    held = [torch.cat(parts) for parts in zip(splits.test, splits.validation, strict=True)]
    return Images(
        train=(small(splits.train[0]), splits.train[1]),
        held=(small(held[0]), held[1]),
        mean=(0.5,),
        std=(0.5,),
        evaluation=len(splits.test[1]),
        fold=len(splits.validation[1]),
        shift=1,
        mirrored=False,
    )
