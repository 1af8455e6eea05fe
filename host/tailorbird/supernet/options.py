"""How a network was compiled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Arguments of elastic(), kept so that a saved SuperNet can be compiled again in the same way."""

    only: tuple[str, ...] | None = None
    freeze: tuple[str, ...] = ()
    divisor: int = 8
