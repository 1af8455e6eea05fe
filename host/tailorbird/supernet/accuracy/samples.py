"""Samples: what a loader gave, read once, named by content and cut into batches of even size."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from tailorbird.errors import UsageError
from tailorbird.graph import Inputs
from tailorbird.supernet.loader import Batch, read

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Batches on the network's device with inputs laid out as its example. digests: one for each sample's inputs."""

    batches: tuple[Batch, ...]
    digests: tuple[str, ...]

    @classmethod
    def of(cls, net: SuperNet, loader: Iterable[Any], limit: int | None, purpose: str) -> Samples:
        """At most `limit` samples of a loader, by default all. purpose: what they are for, as messages put it.

        Raises: UsageError for an empty loader or other batches, InputShapeError for inputs that do not fit.
        """
        batches = tuple(_laid_out(net, batch) for batch in _taken(net, loader, limit))
        if not batches:
            raise UsageError(
                f"there is nothing to {purpose}",
                why="the loader gave no batch: it is empty, or a generator that was used up before",
                fix="pass a loader with data, such as a list of batches or a DataLoader",
            )
        return cls(batches, tuple(digest for batch in batches for digest in sample_digests(batch)))

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.digests)

    def first(self, limit: int, *, whole: bool = False) -> Samples:
        """The first `limit` samples; whole: no batch is cut."""
        taken: list[Batch] = []
        left = limit
        for batch in self.batches:
            if left > 0:
                taken.append(batch if whole else batch.head(left))
                left -= taken[-1].size
        return Samples(tuple(taken), self.digests[: sum(batch.size for batch in taken)])

    def sha256(self) -> str:
        """Of inputs, order, batch sizes and targets."""
        digest = hashlib.sha256()
        for batch in self.batches:
            digest.update(f"{batch.size}\0{pytree.tree_structure(batch.target)}\0".encode())
            for leaf in pytree.tree_leaves(batch.target):
                _update(digest, leaf)
        digest.update("".join(self.digests).encode())
        return digest.hexdigest()

    def chunks(self, limit: int, size: int, *, whole: bool = False) -> tuple[Batch, ...]:
        """Inputs of the first `limit` samples in even batches of at most `size`, without targets.

        Consecutive batches are joined where their samples have one shape. whole: leave the loader's batches as they
        are, for networks that run at one batch size only.
        """
        found: list[Batch] = []
        left = limit
        for group in _alike(self.batches):
            if left <= 0:
                break
            if whole:
                taken = group[: math.ceil(left / group[0].size)]
                found += [Batch(batch.inputs) for batch in taken]
            else:
                taken = [_joined(group).head(left)]
                found += _split(taken[0], size)
            left -= sum(batch.size for batch in taken)
        return tuple(found)


def sample_digests(batch: Batch) -> list[str]:
    """A digest of the inputs of every sample, whatever batch it comes in. Inputs must be laid out as the example."""
    digests = [hashlib.blake2b(digest_size=16) for _ in range(batch.size)]
    for leaf in batch.inputs.leaves:
        if isinstance(leaf, Tensor) and leaf.ndim and leaf.shape[0] == batch.size:
            rows = leaf.detach().cpu().contiguous()
            for digest, row in zip(digests, rows, strict=True):
                _update(digest, row)
    return [digest.hexdigest() for digest in digests]


def overlap(net: SuperNet, samples: Samples, training: Iterable[Any]) -> float:
    """Share of samples whose inputs a training loader gives too, bit for bit; augmented ones are not recognised.

    Raises: UsageError when the loader is empty or gives something else.
    """
    left = set(samples.digests)
    seen = 0
    for batch in read(training, net.device):
        left.difference_update(sample_digests(_laid_out(net, batch)))
        seen += batch.size
        if not left:
            break
    if not seen:
        raise UsageError(
            "there is nothing to compare with", why="the training loader gave no batch", fix="pass the loader of fit()"
        )
    return sum(digest not in left for digest in samples.digests) / samples.count


def _taken(net: SuperNet, loader: Iterable[Any], limit: int | None) -> Iterator[Batch]:
    """So many samples; in whole batches for a network that runs at one batch size only."""
    if net.graph.batch is not None or limit is None:
        yield from read(loader, net.device, limit)
        return
    for batch in read(loader, net.device):
        yield batch
        limit -= batch.size
        if limit <= 0:
            return


def _laid_out(net: SuperNet, batch: Batch) -> Batch:
    inputs = net.bound(batch.inputs)
    net.check_inputs(inputs.leaves)
    return Batch(inputs, batch.target)


def _update(digest: Any, value: Any) -> None:
    if not isinstance(value, Tensor):
        digest.update(f"{value!r}\0".encode())
        return
    digest.update(f"{value.dtype}{tuple(value.shape)}\0".encode())
    digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _alike(batches: Sequence[Batch]) -> Iterator[list[Batch]]:
    """Runs of batches whose samples can be put into one."""
    run: list[Batch] = []
    for batch in batches:
        if run and _layout(batch) != _layout(run[0]):
            yield run
            run = []
        run.append(batch)
    if run:
        yield run


def _layout(batch: Batch) -> list[Any]:
    return [(x.shape[1:], x.dtype) if _has_samples(x, batch) else repr(x) for x in batch.inputs.leaves]


def _has_samples(leaf: Any, batch: Batch) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == batch.size


def _joined(group: list[Batch]) -> Batch:
    first = group[0]
    columns = zip(*(batch.inputs.leaves for batch in group), strict=True)
    leaves = [torch.cat(column) if _has_samples(column[0], first) else column[0] for column in columns]
    return Batch(Inputs(*pytree.tree_unflatten(leaves, first.inputs.structure)))


def _split(batch: Batch, size: int) -> list[Batch]:
    parts = math.ceil(batch.size / size)
    ends = [batch.size * part // parts for part in range(parts + 1)]
    return [
        Batch(batch.inputs.map_batched(lambda x, a=start, b=end: x[a:b]))  # type: ignore[misc]
        for start, end in itertools.pairwise(ends)
    ]
