"""Outputs of a network: any nesting of containers, data classes and constants around tensors."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

_LEAVES = (Tensor, type(None), bool, int, float, complex, str)


def plain(value: Any) -> tuple[Any, tuple[str, ...]]:
    """An output without what is neither tensor, constant nor container, and the types that were left out (as None).

    Such an object (a key-value cache, say) is state that a network hands to its own next call; only the user's module
    knows how to read it. A data class becomes a container here by `torch.export.register_dataclass`, if it is none yet.
    """
    dropped: dict[str, None] = {}

    def visit(leaf: Any) -> Any:
        if isinstance(leaf, _LEAVES):
            return leaf
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type) and type(leaf) not in pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(type(leaf))
            return pytree.tree_map(visit, leaf)
        dropped[type(leaf).__name__] = None
        return None

    return pytree.tree_map(visit, value), tuple(dropped)


@contextlib.contextmanager
def plain_outputs(model: nn.Module) -> Iterator[None]:
    """While this lasts, `model` returns plain outputs."""
    forward = model.forward
    own = "forward" in vars(model)

    @functools.wraps(forward)
    def without_state(*args: Any, **kwargs: Any) -> Any:
        return plain(forward(*args, **kwargs))[0]

    model.forward = without_state
    try:
        yield
    finally:
        if own:
            model.forward = forward
        else:
            del model.forward
