"""Accuracy of a subnet on labelled data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import logits, read
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def accuracy(net: SuperNet, config: Config, loader: Iterable[Any], images: int | None = None) -> float:
    """Top-1 accuracy, a fraction, on up to `images` samples. Raises: UsageError when the loader is empty."""
    right = total = 0
    device = net.device
    with evaluating(net), torch.no_grad():
        for batch in read(loader, device, images):
            guess = logits(net(*batch.inputs, config=config)).argmax(-1)
            right += int((guess == batch.known()).sum())
            total += guess.numel()
    if not total:
        raise UsageError("there is nothing to evaluate", why="the loader gave no batch", fix="pass a loader with data")
    return right / total


@contextmanager
def evaluating(net: SuperNet) -> Iterator[None]:
    """Eval mode for a while."""
    before = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(before)
