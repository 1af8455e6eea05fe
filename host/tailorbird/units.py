"""Quantities as a person reads them: "1.24 ms", "23.4 M", "97.1 %"."""

from __future__ import annotations

import math


def time_words(us: float) -> str:
    """Microseconds in the unit that leaves one to three digits before the point."""
    if us < 1000:
        return f"{us:.3g} us" if us < 100 else f"{us:.0f} us"
    if us < 1e6:
        return f"{significant(us / 1e3)} ms"
    return f"{significant(us / 1e6)} s"


def count_words(value: float) -> str:
    """A count with k, M, G or T."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:g}"


def byte_words(value: float) -> str:
    """Bytes in binary units."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value:g} B"


def share_words(fraction: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{100 * fraction:.1f} %"


def significant(value: float) -> str:
    """Three significant digits, never in exponent form."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"
