"""Distributed: several processes train one SuperNet together over torch.distributed, one exchange for each step.

    torchrun --nproc-per-node 2 your_script.py      # the script calls net.fit(loader, ...) as it would alone

Every rank draws the same subnets, works on its part of the batch and adds its gradients to one flat buffer, which is
summed over ranks once a step, however many subnets took part. Beside the gradients travel what batch_norm added to its
running statistics, the losses (a NaN anywhere stops all ranks with the same error), the clock of rank 0 and wishes to
stop. A rank's part counts by its samples, so the sum is the gradient of the mean over the whole batch, also where a
batch does not divide evenly. batch_norm normalises each part by itself, as DistributedDataParallel does.

A loader that gives every rank the same batches is cut here. One that deals out by itself is left alone: a
DistributedSampler (which Lightning and Ray put into loaders) or the shards of Accelerate's `prepare(loader)`. Both set
up the process group that `fit` then joins: call `net.fit` where you would call your own loop, with the network
itself and not a DistributedDataParallel around it.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d as c10d
from torch.distributed.rendezvous import rendezvous

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import Batch
from tailorbird.supernet.training.ema import tensors
from tailorbird.supernet.training.failure import TrainingError
from tailorbird.supernet.training.ranks import Alone, Ranks, Rows
from tailorbird.supernet.training.recipe import Recipe

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

#: Seconds to wait for a rank that is alive but silent. One that died is noticed at once (on NVIDIA GPUs: after this).
TIMEOUT_S = 300.0
_FEWEST = 2  # samples of a rank's part: batch_norm over single values has no variance
_ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets
_groups = itertools.count()


class Together:
    """One of several processes."""

    def __init__(self, group: dist.ProcessGroup, device: torch.device, *, sharded: bool = False) -> None:
        """sharded: whether the training loader gives each rank batches of its own."""
        self._group, self._device, self._sharded = group, device, sharded
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """A contiguous part, larger by one on the first ranks where it does not divide evenly.

        A remainder too small for parts is worked on whole by every rank, which gives the same mean.
        """
        count, size = batch.size, self.size
        if self._sharded:
            return batch, float(count)
        if count < _FEWEST * size:
            return batch, count / size
        start, stop = (place * (count // size) + min(place, count % size) for place in (self.rank, self.rank + 1))
        return batch.part(start, stop), float(stop - start)

    def deal(self, loader: Iterable[Any]) -> Iterable[Any]:
        """Every size-th batch; all of a loader that deals out by itself."""
        return loader if is_sharded(loader) else itertools.islice(loader, self.rank, None, self.size)

    def average(self, tensors: Sequence[Tensor], weight: float, facts: Sequence[float]) -> Rows:
        """One sum over ranks of one flat buffer, in double precision if any tensor is."""
        double = any(tensor.dtype == torch.float64 for tensor in tensors)
        kind = torch.float64 if double else torch.float32
        own = torch.zeros(self.size, 1 + len(facts), dtype=kind)
        own[self.rank] = torch.tensor([weight, *facts], dtype=kind)
        parts = [tensor.detach().reshape(-1).to(kind) for tensor in tensors]
        flat = torch.cat([*parts, own.reshape(-1).to(self._device)])
        summed = flat[: flat.numel() - own.numel()].mul_(weight)
        with self._reaching():
            dist.all_reduce(flat, group=self._group)
        rows = flat[summed.numel() :].view(own.shape).tolist()
        summed.div_(sum(row[0] for row in rows))
        for tensor, mean in zip(tensors, summed.split([part.numel() for part in parts]), strict=True):
            tensor.copy_(mean.view(tensor.shape))
        return [row[1:] for row in rows]

    def gather(self, facts: Sequence[float]) -> Rows:
        """As numbers of double precision."""
        rows = torch.zeros(self.size, len(facts), dtype=torch.float64)
        rows[self.rank] = torch.tensor(facts, dtype=torch.float64)
        rows = rows.to(self._device)
        with self._reaching():
            dist.all_reduce(rows, group=self._group)
        return rows.tolist()

    def spread(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0, bit for bit, in one exchange."""
        parts = [tensor.detach().contiguous().reshape(-1).view(torch.uint8).to(self._device) for tensor in tensors]
        flat = torch.cat(parts)
        with self._reaching():
            dist.broadcast(flat, group=self._group, group_src=0)
        for tensor, part in zip(tensors, flat.split([part.numel() for part in parts]), strict=True):
            # A copy starts at an address that every type can be read from.
            tensor.detach().copy_(part.clone().view(tensor.dtype).view(tensor.shape))

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # torch has no narrower type for it
            raise TrainingError.rank_lost(self.rank, self.size, error) from error


@contextmanager
def joined(
    net: SuperNet, recipe: Recipe, loader: Iterable[Any], *, sharded: bool | None = None, timeout_s: float = TIMEOUT_S
) -> Iterator[Ranks]:
    """The ranks of this program: of torch.distributed where it is initialised or torchrun's environment is set.

    The network of each rank becomes that of rank 0. sharded: whether the loader gives each rank batches of its own
    (None: as its sampler says). What was set up here is taken down again, also when training fails: the other ranks
    then fail as well instead of waiting.

    Raises:
        UsageError: the ranks train different networks, or with different settings.
        TrainingError: a rank is not there.
    """
    with _process_group(net.device, timeout_s) as group:
        if group is None:
            yield Alone()
            return
        ranks = Together(group, net.device, sharded=is_sharded(loader) if sharded is None else sharded)
        _check_equal(ranks, net, recipe)
        _align(ranks, net)
        yield ranks


def _align(ranks: Together, net: SuperNet) -> None:
    """Make the network of every rank that of rank 0: weights, buffers, and which channels subnets keep."""
    orders = [net.orders[name] for name in sorted(net.orders)]
    ranks.spread([*tensors(net).values(), *orders])
    for sized in net.sizes:
        sized.forget_plans()


def is_sharded(loader: object) -> bool:
    """Whether a loader says that it gives each rank batches of its own, by a sampler or as a shard of Accelerate."""
    pending: list[object] = [loader]
    seen: list[object] = []
    while pending:
        item = pending.pop()
        if item is None or any(item is other for other in seen):
            continue
        seen.append(item)
        counts = [getattr(item, name, None) for name in ("num_replicas", "num_processes")]
        if any(isinstance(count, int) and count > 1 for count in counts):
            return True
        pending += [getattr(item, name, None) for name in ("sampler", "batch_sampler", "dataset")]
    return False


@contextmanager
def _process_group(device: torch.device, timeout_s: float) -> Iterator[dist.ProcessGroup | None]:
    """A group of our own over all processes, so that its end ends nothing else; None for one process."""
    made = _initialise(device, timeout_s)
    try:
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            yield None
            return
        try:
            group = dist.new_group(backend=_backend(device), timeout=timedelta(seconds=timeout_s))
        except RuntimeError as error:
            raise TrainingError.rank_lost(dist.get_rank(), dist.get_world_size(), error) from error
        assert isinstance(group, dist.ProcessGroup)
        try:
            yield group
        finally:
            dist.destroy_process_group(group)
    finally:
        if made:
            dist.destroy_process_group()


def _initialise(device: torch.device, timeout_s: float) -> bool:
    """Set torch.distributed up from torchrun's environment, if that is set and nobody did before."""
    if not dist.is_available() or dist.is_initialized() or any(name not in os.environ for name in _ENVIRONMENT):
        return False
    if int(os.environ["WORLD_SIZE"]) == 1:
        return False
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        # Keys of an earlier group in the same store would lead to addresses that are gone.
        store = c10d.PrefixStore(f"tailorbird/{next(_groups)}", _store(timeout_s))
        limit = timedelta(seconds=timeout_s)
        dist.init_process_group(_backend(device), store=store, rank=rank, world_size=size, timeout=limit)
    except RuntimeError as error:
        raise TrainingError.rank_lost(rank, size, error) from error
    return True


@functools.cache
def _store(timeout_s: float) -> c10d.Store:
    """Where the processes of torchrun find each other; rank 0 may be the one that keeps it, so it stays open."""
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
    return store


def _backend(device: torch.device) -> str:
    return "nccl" if device.type == "cuda" else "gloo"


def _check_equal(ranks: Together, net: SuperNet, recipe: Recipe) -> None:
    state = [(name, list(value.shape), str(value.dtype)) for name, value in tensors(net).items()]
    orders = [(name, len(net.orders[name])) for name in sorted(net.orders)]
    choices = [(d.name, [str(choice) for choice in d.choices]) for d in net.space.dimensions]
    told = (_digest([state, orders, choices]), _digest(recipe.to_json()))
    rows = ranks.gather(told)
    for place, what in enumerate(("networks", "settings")):
        if len({row[place] for row in rows}) > 1:
            raise UsageError(
                f"the ranks train with different {what}",
                why=f"all {ranks.size} processes must call fit on the same network with the same settings",
                fix="build the network and call fit alike on every rank; weights may differ, rank 0's are taken",
            )


def _digest(value: object) -> float:
    """A number that differs between different values, small enough to be exact."""
    text = json.dumps(value, sort_keys=True).encode()
    return float(int.from_bytes(hashlib.sha256(text).digest()[:6]))
