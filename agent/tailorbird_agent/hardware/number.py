"""Numbers as the kernel writes them: plain ASCII. Anything else, infinity included, is None."""

from __future__ import annotations

import math
import re

_WHOLE = re.compile(r"[+-]?[0-9]{1,24}", re.ASCII)
_HEX = re.compile(r"(0[xX])?[0-9a-fA-F]{1,16}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?", re.ASCII)


def whole(text: str | None) -> int | None:
    """A decimal integer."""
    return int(text) if text is not None and _WHOLE.fullmatch(text) else None


def hexadecimal(text: str | None) -> int | None:
    """A hexadecimal integer, with or without 0x."""
    return int(text, 16) if text is not None and _HEX.fullmatch(text) else None


def decimal(text: str | None) -> float | None:
    """A decimal fraction without an exponent."""
    if text is None or not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
