"""Feed: batches without end, in an order that a seed decides and a later run can go on with.

Each pass over the loader draws from a random stream of its own, made from the seed and the number of the pass: a loader
that shuffles or augments by torch's, numpy's or Python's global generators gives the same batches again, whatever is
drawn elsewhere between two of them. Generators that the loader holds are put back to where they were at the start of
the pass. Loaders with an order of their own are told the number of the pass by `set_epoch`, as torch's
DistributedSampler is. Only the workers of a DataLoader with `persistent_workers` keep states that nobody can put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import Batch, read
from tailorbird.supernet.training.randomness import Generators, Stream

_PRIME = 1_000_003


class Feed:
    """Batches of a loader, pass after pass. epoch, place: where the next batch comes from."""

    def __init__(self, loader: Iterable[Any], device: torch.device, seed: int) -> None:
        self._loader, self._device, self._seed = loader, device, seed
        self._own = Generators(loader)
        self._began_with = self._own.state()
        self.epoch = 0
        self.place = 0

    def length(self) -> int | None:
        """Batches in one pass, None where the loader does not say."""
        try:
            return len(self._loader)  # type: ignore[arg-type]
        except TypeError:
            return None

    def batches(self, passes: int | None = None, skipped: Callable[[Batch], bool] | None = None) -> Iterator[Batch]:
        """Batches from where the feed stands, for so many passes in all (None: for ever).

        skipped: is given the batches that an earlier run has done, and says whether to go on.

        Raises: UsageError for a loader that gives no batch, or fewer than it gave in an earlier run.
        """
        while passes is None or self.epoch < passes:
            given, done = 0, self.place
            for batch in self._pass():
                given += 1
                if given > done:
                    self.place = given
                    yield batch
                elif skipped is not None and not skipped(batch):
                    return
            if not given:
                raise UsageError(
                    "the training loader gave no batch" + (f" in pass {self.epoch + 1}" if self.epoch else ""),
                    why="it is a generator, which is used up after one pass" if self.epoch else "it is empty",
                    fix="pass a DataLoader or a list of batches, which can be read more than once",
                )
            if given < done:
                raise _other_loader(f"it gave {given} batches in pass {self.epoch + 1}, {done} were done before")
            self._began_with = self._own.state()
            self.epoch, self.place = self.epoch + 1, 0

    def _pass(self) -> Iterator[Batch]:
        """One pass over the loader, each batch read within the stream of the pass."""
        self._own.load(self._began_with)
        inner = [getattr(self._loader, name, None) for name in ("sampler", "batch_sampler")]
        for holder in (self._loader, *inner):
            tell = getattr(holder, "set_epoch", None)
            if callable(tell):
                tell(self.epoch)
        stream = Stream((self._seed * _PRIME + self.epoch) % 2**32, self._device, self._own)
        batches = read(self._loader, self._device)
        while True:
            with stream.drawn():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    # -- going on later

    def state(self) -> dict[str, Any]:
        """Where the feed stands, and what the loader is like."""
        epoch, place = self.epoch, self.place
        if place == self.length() and not self._own.names:
            epoch, place = epoch + 1, 0  # nothing is read again then
        return {"epoch": epoch, "place": place, "length": self.length(), "generators": self._began_with}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raises: UsageError when the loader cannot be the one that the state is of."""
        if state["length"] != self.length():
            raise _other_loader(f"it has {self.length()} batches, {state['length']} before")
        if set(state["generators"]) != set(self._own.names):
            raise _other_loader(
                f"it holds the random generators {', '.join(self._own.names) or 'none'}, "
                f"before {', '.join(state['generators']) or 'none'}"
            )

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.epoch, self.place, self._began_with = state["epoch"], state["place"], state["generators"]


def _other_loader(why: str) -> UsageError:
    return UsageError(
        "the training loader is another one than that of the checkpoint",
        why=why,
        fix="pass the data, batch size and sampler of that run, or start anew with another checkpoint path",
    )
