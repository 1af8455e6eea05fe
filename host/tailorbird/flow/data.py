"""Labelled data in three splits, from a file or from the user's own function."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailorbird.errors import InputShapeError, MissingFileError, UsageError
from tailorbird.flow.inputs import InputSpec
from tailorbird.flow.loaders import Loaders
from tailorbird.flow.source import Source, cause_words, source_sha256

_NAMES = ("train", "validation", "test")
_TRAINING = 64  # samples in a step
_READING = 200  # samples read at once where nothing is learnt from them
#: Tasks whose labels are numbers of classes.
_CLASSES = ("classification", "segmentation")

Split = tuple[torch.Tensor, torch.Tensor]
Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Three splits of (inputs (N, ...), labels (N, ...)). Decisions use validation; test is for reported figures alone.

    augment: applied to each training batch with a generator to draw from.
    """

    train: Split
    validation: Split
    test: Split
    augment: Augment | None = None

    def sha256(self) -> str:
        """Content hash of all tensors, and of the augmentation's name."""
        name = getattr(self.augment, "__qualname__", "") if self.augment else ""
        digest = hashlib.sha256(name.encode())
        for inputs, labels in (self.train, self.validation, self.test):
            for tensor in (inputs, labels):
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def fitted(self, inputs: Sequence[InputSpec]) -> Splits:
        """The same data for a network with these inputs: integers where it takes integers.

        Raises:
            InputShapeError: samples have another shape than the network takes (without the batch).
            UsageError: the network takes several inputs, of which data files hold one.
        """
        if len(inputs) != 1 or inputs[0].keyword:
            raise UsageError(
                f"this network takes {len(inputs)} inputs" if len(inputs) > 1 else "this network's input has a name",
                why="a data file holds one input for each label, passed by position",
                fix="train it in Python with net.fit(loader), or wrap the model in a module with one input",
            )
        (wanted,) = inputs
        found = tuple(self.train[0].shape[1:])
        if found != wanted.shape[1:]:
            raise InputShapeError(
                f"the data's samples are {found}, the model takes {wanted.shape[1:]}",
                why="both come without the batch dimension",
                fix="build the SuperNet with --input 1," + ",".join(map(str, found)) + ", or convert the data",
            )
        kind: torch.dtype = getattr(torch, wanted.dtype)
        if self.train[0].dtype == kind:
            return self
        train, validation, test = ((x.to(kind), y) for x, y in (self.train, self.validation, self.test))
        return Splits(train, validation, test, self.augment)

    def training(self, batch: int | None, seed: int) -> Batches:
        """Shuffled batches to learn from."""
        return Batches(self.train, batch or _TRAINING, shuffle_seed=seed, augment=self.augment)

    def calibration(self) -> Batches:
        """Batches to find statistics on, augmented as for training: statistics of plain samples cost points."""
        return Batches(self.train, _READING, shuffle_seed=0, augment=self.augment)

    def held_out(self) -> Batches:
        """Batches to decide by."""
        return Batches(self.validation, _READING)


#: What a network can be trained on.
Data = Splits | Loaders


class Batches:
    """A split in batches, to be read as often as needed; with a shuffle_seed each pass has another order."""

    def __init__(
        self, split: Split, size: int, shuffle_seed: int | None = None, augment: Augment | None = None
    ) -> None:
        self._inputs, self._labels = split
        self._size = size
        self._augment = augment
        self._random = None if shuffle_seed is None else torch.Generator().manual_seed(shuffle_seed)

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / self._size)

    def __iter__(self) -> Iterator[Split]:
        count = len(self._labels)
        order = torch.arange(count) if self._random is None else torch.randperm(count, generator=self._random)
        for part in order.split(self._size):
            inputs = self._inputs[part]
            if self._augment is not None and self._random is not None:
                inputs = self._augment(inputs, self._random)
            yield inputs, self._labels[part]


def load_splits(text: str) -> Splits:
    """Splits from what load_data reads, for stages that take images and labels from arrays.

    Raises:
        MissingFileError: the file does not exist.
        UsageError: the data are not of that form.
    """
    found = load_data(text)
    if isinstance(found, Splits):
        return found
    raise UsageError(
        f"{text} returned loaders",
        why="this command takes single samples out of arrays",
        fix="name another callable with --data, which returns train_x, train_y, validation_x, ...",
    )


def load_data(text: str, task: str = "classification") -> Data:
    """Data from `FILE.npz` (arrays train_x, train_y, validation_x, ...) or from a callable `FILE.py:name`.

    The callable takes no arguments and returns Splits, a mapping with those six names, or loaders: a mapping with
    `train` and `validation`. task: says whether labels are classes or values.

    Raises:
        MissingFileError: the file does not exist.
        UsageError: the file or the returned value is not of that form.
    """
    if text.endswith(".npz"):
        path = Path(text).expanduser()
        if not path.is_file():
            raise MissingFileError(
                f"there is no file {text}", fix="check the path; it is relative to the current folder"
            )
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return _splits({name: arrays[name] for name in arrays.files}, text, task)
        except (ValueError, OSError) as error:
            raise UsageError(f"{text} cannot be read", why=str(error), fix="write it with numpy.savez") from error
    source = Source.parse(text)
    factory = source.load()
    try:
        found = factory()
    except Exception as error:
        raise UsageError(
            f"{source} failed", why=cause_words(error, source.location), fix="run it with python first"
        ) from error
    if isinstance(found, Splits):
        return found
    if isinstance(found, Mapping):
        if "train" in found or "validation" in found:
            return Loaders.of(found, f"{source.name} {source_sha256(source)}", str(source))
        return _splits(found, text, task)
    raise UsageError(
        f"{source} returned a {type(found).__name__}",
        why="data are three splits of inputs and labels, or loaders",
        fix="return a dict with train_x, train_y, validation_x, validation_y, test_x and test_y, "
        "or one with loaders named train and validation",
    )


def _splits(arrays: Mapping[str, Any], where: str, task: str) -> Splits:
    wanted = [f"{part}_{kind}" for part in _NAMES for kind in ("x", "y")]
    if missing := [name for name in wanted if name not in arrays]:
        raise UsageError(
            f"{where} lacks {', '.join(missing)}", why=f"it holds {', '.join(arrays) or 'nothing'}", fix="add them"
        )
    parts = []
    for part in _NAMES:
        inputs, labels = torch.as_tensor(arrays[f"{part}_x"]), torch.as_tensor(arrays[f"{part}_y"])
        if labels.ndim < 1 or len(inputs) != len(labels) or len(inputs) == 0:
            raise UsageError(
                f"{where}: {part}_x {tuple(inputs.shape)} and {part}_y {tuple(labels.shape)} do not fit",
                why="one label is needed for each input",
            )
        parts.append((inputs.float(), labels.long() if task in _CLASSES else labels))
    train, validation, test = parts
    return Splits(train, validation, test)
