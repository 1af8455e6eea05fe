"""Quantities as a person reads them: "1.24 ms", "23.4 M", "97.1 %"; and back from typed units on the command line."""

from __future__ import annotations

import math
import re

from tailorbird.errors import UsageError

_TIME_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "min": 60e6, "h": 3600e6}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*")


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


def parse_time_us(text: str) -> float:
    """Microseconds of a typed time: "25ms", "1.5 s", "30m".

    Raises:
        UsageError: no number, no unit or an unknown one.
    """
    return _parse(text, _TIME_US, "a time", "25ms, 800us, 30s or 10m")


def parse_bytes(text: str) -> float:
    """Bytes of a typed size: "40MB", "64KiB".

    Raises:
        UsageError: no number, no unit or an unknown one.
    """
    return _parse(text, _BYTES, "a size", "40MB or 64KiB")


def _parse(text: str, units: dict[str, float] | dict[str, int], kind: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    if match is None or match[2] not in units or float(match[1]) <= 0:
        missing = match is not None and not match[2]
        raise UsageError(
            f"{text!r} is not {kind}",
            why="the unit is missing" if missing else "it must be a positive number with one of " + ", ".join(units),
            fix=f"write it with its unit: {example}",
        )
    return float(match[1]) * units[match[2]]
