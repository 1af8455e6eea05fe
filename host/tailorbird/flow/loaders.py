"""Data that come in batches: loaders of the user's own, for data that do not fit in memory or have several inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.errors import UsageError
from tailorbird.flow.inputs import InputSpec

_NEEDED = ("train", "validation")


@dataclass(frozen=True, slots=True, eq=False)
class Loaders:
    """Loaders of (inputs, labels), or of mappings with `labels`, which can be read again for each epoch.

    digest: of the file they come from. Their content is not read to tell one from another.
    """

    train: Iterable[Any]
    validation: Iterable[Any]
    digest: str

    @classmethod
    def of(cls, found: Mapping[str, Any], digest: str, where: str) -> Loaders:
        """From a mapping with `train` and `validation`. Raises: UsageError."""
        if missing := [name for name in _NEEDED if name not in found]:
            raise UsageError(f"{where} lacks {', '.join(missing)}", fix="return loaders for train and validation")
        for name in _NEEDED:
            if isinstance(found[name], Iterator) or not isinstance(found[name], Iterable):
                raise UsageError(
                    f"{name} of {where} is a {type(found[name]).__name__}",
                    why="a loader is read once for each epoch, and a generator can be read once in all",
                    fix="return a DataLoader, or a list of batches",
                )
        return cls(found["train"], found["validation"], digest)

    def sha256(self) -> str:
        """The digest of their source."""
        return self.digest

    def fitted(self, _inputs: Sequence[InputSpec]) -> Loaders:
        """Themselves: the network checks each batch."""
        return self

    def training(self, batch: int | None, _seed: int) -> Iterable[Any]:
        """Batches to learn from. Raises: UsageError for a batch size: these batches are made."""
        if batch is not None:
            raise UsageError(
                "this data come in batches of their own",
                why="the callable of --data returns loaders",
                fix="leave out --batch, and set the size in the loader",
            )
        return self.train

    def calibration(self) -> Iterable[Any]:
        """Batches to find statistics on."""
        return self.train

    def held_out(self) -> Iterable[Any]:
        """Batches to decide by."""
        return self.validation
