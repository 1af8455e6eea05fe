"""The few SVG words the charts need: scales with sensible ticks, and elements written as text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] in data to [start, end] in pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(
        cls, values: Sequence[float], start: float, end: float, *, log: bool = False, pad: float = 0.06
    ) -> Scale:
        """A scale that holds all finite values with a margin of `pad` of its length on both sides."""
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)] or [1.0]
        low, high = min(finite), max(finite)
        if log:
            margin = max((high / low) ** pad, 1.05)
            return cls(low / margin, high * margin, start, end, log=True)
        margin = (high - low) * pad or abs(high) * pad or 1.0
        return cls(low - margin, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Pixel of a value; values outside are clamped to the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """About `count` round values within the scale: 1, 2, 5 times a power of ten."""
        if self.log:
            found = self._log_ticks()
            if len(found) >= 2:
                return found[:: max(1, math.ceil(len(found) / count))]
        step = nice_step((self.high - self.low) / max(count, 1))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return tuple(round(k * step, 12) for k in range(first, last + 1))

    def _log_ticks(self) -> tuple[float, ...]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = (digit * 10.0**decade for decade in decades for digit in (1, 2, 5))
        return tuple(v for v in values if self.low <= v <= self.high)


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 or 10 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def number(value: float) -> str:
    """A coordinate with one decimal and no trailing zero."""
    return f"{value:.1f}".removesuffix(".0")


def element(name: str, body: str = "", /, **attributes: str | float) -> str:
    """One element; `class_` and `stroke_width` become `class` and `stroke-width`."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{number(v) if isinstance(v, float) else html.escape(str(v))}"'
        for key, v in attributes.items()
    )
    return f"<{name}{pairs}>{body}</{name}>" if body else f"<{name}{pairs}/>"


def text(x: float, y: float, words: str, **attributes: str | float) -> str:
    """A text element, escaped."""
    return element("text", html.escape(words), x=float(x), y=float(y), **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float) -> str:
    """A straight line."""
    return element("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), **attributes)


def path(points: Iterable[tuple[float, float]], **attributes: str | float) -> str:
    """A polyline through the points."""
    words = " ".join(f"{'L' if i else 'M'}{number(x)} {number(y)}" for i, (x, y) in enumerate(points))
    return element("path", d=words or "M0 0", **attributes)


def dots(points: Iterable[tuple[float, float]], **attributes: str | float) -> str:
    """Many round dots as one path of zero-length strokes (round line caps): a tenth of the bytes of circles."""
    words = "".join(f"M{number(x)} {number(y)}h0" for x, y in points)
    return element("path", d=words, **attributes) if words else ""


def crosses(points: Iterable[tuple[float, float]], arm: float, **attributes: str | float) -> str:
    """Many small crosses as one path."""
    a, d = number(arm), number(2 * arm)
    words = "".join(f"M{number(x - arm)} {number(y - arm)}l{d} {d}m0 -{d}l-{d} {d}" for x, y in points)
    return element("path", d=words, data_arm=a, **attributes) if words else ""
