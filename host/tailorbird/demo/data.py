"""The demo's images in three splits. Training sees `train`, every decision uses `validation`, `test` only reports."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from tailorbird.errors import MissingFileError, UsageError
from tailorbird.flow.data import Splits

#: Mean and standard deviation of the channels that the published CIFAR-10 weights were trained with.
_CIFAR_MEAN = (0.485, 0.456, 0.406)
_CIFAR_STD = (0.229, 0.224, 0.225)


def digits(*, seed: int = 0) -> Splits:
    """scikit-learn's 1,797 handwritten digits, upscaled from 8x8 to 32x32: images (N, 1, 32, 32), labels 0-9."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels.astype(np.float32)).reshape(-1, 1, 8, 8)  # values 0..16
    images = functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False) / 8 - 1
    labels = torch.from_numpy(classes.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train, validation, test = ((images[part], labels[part]) for part in (order[:997], order[997:1397], order[1397:]))
    return Splits(train, validation, test, augment=shift)


def shift(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Move a batch of images by up to one pixel in each direction, round the edge."""
    by = torch.randint(-1, 2, (2,), generator=random).tolist()
    return torch.roll(images, by, (2, 3))


def mirror(images: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Mirror every second batch, and move it as `shift` does."""
    images = shift(images, random)
    return images.flip(3) if int(torch.randint(2, (1,), generator=random)) else images


def cifar10(data: Path, *, train: int = 8000, validation: int = 1000, test: int = 1000, seed: int = 0) -> Splits:
    """A random part of CIFAR-10 from DATA/cifar10.zip (`train/<class>/*.png`, `test/<class>/*.png`), normalised.

    Validation and test are disjoint parts of the archive's test images: the published weights have seen all the others.

    Raises:
        MissingFileError: there is no cifar10.zip.
        UsageError: the archive does not look like that.
    """
    archive = data / "cifar10.zip"
    if not archive.is_file():
        raise MissingFileError(
            f"no images at {archive}",
            why="--model resnet20-cifar10 evaluates on real CIFAR-10 images",
            fix="give --data a folder that holds cifar10.zip with train/<class>/*.png and test/<class>/*.png",
        )
    try:
        with zipfile.ZipFile(archive) as files:
            return _read(files, train, validation, test, np.random.default_rng(seed))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise UsageError(f"{archive} cannot be read", why=str(error), fix="download the archive again") from error


def _read(files: zipfile.ZipFile, train: int, validation: int, test: int, random: np.random.Generator) -> Splits:
    names = {
        part: sorted(n for n in files.namelist() if n.split("/")[-3:-2] == [part] and n.endswith(".png"))
        for part in ("train", "test")
    }
    classes = sorted({name.split("/")[-2] for name in names["train"]})
    if len(classes) != 10 or len(names["train"]) < train or len(names["test"]) < validation + test:
        raise UsageError(
            f"{files.filename} does not hold CIFAR-10",
            why=f"found {len(classes)} classes, {len(names['train'])} training and {len(names['test'])} test images",
            fix="the archive must hold train/<class>/*.png and test/<class>/*.png",
        )
    chosen = random.permutation(names["train"])[:train]
    unseen = random.permutation(names["test"])[: validation + test]
    first, second, third = (
        _images(files, part, classes) for part in (chosen, unseen[:validation], unseen[validation:])
    )
    return Splits(first, second, third, augment=mirror)


def _images(files: zipfile.ZipFile, names: np.ndarray, classes: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(io.BytesIO(files.read(str(name)))).convert("RGB")) for name in names])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (_CIFAR_MEAN, _CIFAR_STD))
    labels = torch.tensor([classes.index(str(name).split("/")[-2]) for name in names])
    return ((images - mean) / std).contiguous(), labels
