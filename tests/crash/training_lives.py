"""Training runs that live in processes of their own, so that they can be killed at any moment and go on in another."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from tailorbird.errors import TailorbirdError
from tailorbird.flow.data import Batches
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.training import FitResult

SAMPLES, BATCH = 44, 8  # the last of 6 batches is a smaller one


class Convolutions(nn.Module):
    """batch_norm, dropout, and a branch that Python's own random numbers skip in training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not self.training or random.random() < 0.7:
            x = x + self.body(x)
        return self.fc(self.drop(x.mean((2, 3))))


def norms() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(36, 32), nn.LayerNorm(32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 4)
    )


class Noisy(Dataset):
    """Samples with noise from every generator there is; `own` are held by the data set itself."""

    def __init__(self, seed: int, *, own: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 4, (SAMPLES,), generator=generator)
        self.images = torch.randn(SAMPLES, 1, 6, 6, generator=generator) + self.labels[:, None, None, None]
        self._own = (np.random.default_rng(5), random.Random(6), np.random.RandomState(7)) if own else ()

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        numpy, python, legacy = self._own or (np.random, random, np.random)
        noise = numpy.normal() + python.gauss(0, 1) + legacy.normal() + torch.randn(1)
        return self.images[index] + 0.1 * noise.float(), self.labels[index]


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 0.1 * torch.randn(images.shape, generator=generator)


def stream(data: Dataset) -> Iterator[Any]:
    order = torch.randperm(SAMPLES).tolist()
    for start in range(0, SAMPLES, BATCH):
        samples = [data[index] for index in order[start : start + BATCH]]
        yield torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])


class Unsized:
    """A loader without a length."""

    def __iter__(self) -> Iterator[Any]:
        return stream(Noisy(1))


def global_generators() -> dict[str, Any]:
    data = DataLoader(Noisy(1), BATCH, shuffle=True)
    # A validation that draws, and a bound so tight that training backs off at every look at it.
    held = DataLoader(Noisy(2), BATCH, shuffle=True)
    return {
        "loader": data,
        "validate": held,
        "steps": 16,
        "max_drop": 0.0,
        "lr": 0.1,
        "full": "trained",
        "full_every": 2,
    }


def own_generators() -> dict[str, Any]:
    shared = torch.Generator().manual_seed(11)
    loader = DataLoader(Noisy(1, own=True), BATCH, shuffle=True, generator=shared)
    held = DataLoader(Noisy(2), BATCH, shuffle=True, generator=shared)
    return {"loader": loader, "validate": held, "epochs": 3, "hard": 0.3, "soft": 0.5, "n_random": 1}


def workers() -> dict[str, Any]:
    return {
        "loader": DataLoader(Noisy(1), BATCH, shuffle=True, num_workers=2, multiprocessing_context="fork"),
        "epochs": 2,
        "distillation": "alpha",
    }


def batches() -> dict[str, Any]:
    data = Noisy(1)
    loader = Batches((data.images, data.labels), BATCH, shuffle_seed=3, augment=jitter)
    return {"loader": loader, "epochs": 3, "teacher": "in-place", "ema": 0.0, "ratios": ()}


def unsized() -> dict[str, Any]:
    return {"loader": Unsized(), "steps": 14, "sampling": "independent", "warm_up": 0.3}


CASES: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "global generators": ("convolutions", global_generators),
    "own generators": ("convolutions", own_generators),
    "workers": ("norms", workers),
    "batches": ("norms", batches),
    "unsized": ("convolutions", unsized),
}


@functools.cache
def compiled(kind: str) -> SuperNet:
    """A network that has seen no training."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Convolutions() if kind == "convolutions" else norms()
    return elastic(model.eval(), (torch.randn(2, 1, 6, 6),), divisor=4)


@dataclass(frozen=True)
class Life:
    """What a process does: train one case, and get signals in a step, or no room on the disk for a while.

    at: the step; full: the first step without room, and the first one with room again.
    """

    case: str
    checkpoint: str | None
    resume: bool = False
    every: int | str = 1
    at: int | None = None
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    full: tuple[int, int] | None = None
    strange: bool = False


def live(life: Life, told: Connection) -> None:
    """Tells every step, and then the digest of the weights and what `fit` returned."""
    kind, settings = CASES[life.case]
    net = compiled(kind)
    if life.strange:  # nothing that a new process starts with may matter
        random.seed(os.urandom(8))
        np.random.seed(int.from_bytes(os.urandom(4), "big"))  # noqa: NPY002
        torch.seed()
        with torch.no_grad():
            for value in net.state_dict().values():
                value.copy_(torch.rand(value.shape))
        net.rank("l1")

    notes: list[str] = []

    def on_progress(now: Any) -> None:
        told.send(now.step)
        if now.note:
            notes.append(now.note)
        if now.step == life.at:
            for number in life.signals:
                os.kill(os.getpid(), number)
        if life.full is not None and now.step in life.full:  # the checkpoint of this step is written after this
            _leave_room(room=now.step == life.full[1])

    if life.full is not None and life.full[0] == 0:
        _leave_room(room=False)
    options = settings()
    if life.checkpoint is not None:
        options |= {"checkpoint": life.checkpoint, "resume": life.resume, "every": life.every}
    try:
        result = net.fit(options.pop("loader"), on_progress=on_progress, **options)
    except TailorbirdError as error:
        told.send({"error": str(error), "weights": digest(net), "notes": notes})
    else:
        told.send(outcome(net, result) | {"notes": notes, "missed": result.missed})


def _leave_room(*, room: bool) -> None:
    """Let the system refuse to write files of more than a few bytes, as a full disk does, or let it be."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most if room else 4096, most))


def outcome(net: SuperNet, result: FitResult) -> dict[str, Any]:
    """Everything that must be the same for two runs to be the same."""
    return {
        "weights": digest(net),
        "steps": result.steps,
        "images": result.images,
        "losses": str((result.first_loss, result.last_loss)),
        "scores": (result.full_before, result.full_after, result.update_kept, result.backed_off),
        "stopped_by": result.stopped_by,
    }


def digest(net: SuperNet) -> str:
    hashed = hashlib.sha256()
    for name, value in nn.Module.state_dict(net).items():
        hashed.update(name.encode() + value.contiguous().numpy().tobytes())
    hashed.update(json.dumps({name: order.tolist() for name, order in net.orders.items()}).encode())
    return hashed.hexdigest()


def loaded(path: Path, kind: str) -> SuperNet:
    """The network that a checkpoint holds."""
    return SuperNet.load(path, compiled(kind).weights, (torch.randn(2, 1, 6, 6),))
