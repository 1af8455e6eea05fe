"""State: what modules keep in their attributes between calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def kept_state(model: nn.Module) -> Iterator[None]:
    """Whatever modules assign while this lasts is taken back: tables cached for a size, buffers made on first use.

    A cache filled during a capture would hold tensors without values. Values written into tensors stay.
    """
    before = [(module, _shallow(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            vars(module).clear()
            vars(module).update(attributes)


def hide_empty_buffers(model: nn.Module) -> None:
    """Buffers without a tensor yet become plain attributes: torch.export writes what they are given to an input."""
    for module in model.modules():
        empty = [name for name, buffer in module._buffers.items() if buffer is None]  # noqa: SLF001
        for name in empty:
            del module._buffers[name]  # noqa: SLF001
            vars(module)[name] = None


def _shallow(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if type(value) in _CONTAINERS else value for name, value in attributes.items()}
