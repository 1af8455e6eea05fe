"""A plot: an SVG frame with axes, and the marks a pointer or the arrow keys can visit."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.ui.svg import Scale, element, line, text


@dataclass(frozen=True, slots=True)
class Size:
    """Outer size of a plot in pixels and the room left of and below its axes."""

    width: float
    height: float
    left: float = 56.0
    right: float = 14.0
    top: float = 12.0
    bottom: float = 40.0

    @property
    def x_range(self) -> tuple[float, float]:
        """Pixels of the left and right end of the x axis."""
        return self.left, self.width - self.right

    @property
    def y_range(self) -> tuple[float, float]:
        """Pixels of the lower and upper end of the y axis."""
        return self.height - self.bottom, self.top


@dataclass(frozen=True, slots=True)
class Mark:
    """A place that can be visited: pixel position and the words shown there."""

    x: float
    y: float
    words: str


def svg_plot(size: Size, label: str, body: str, marks: Sequence[Mark]) -> str:
    """The finished plot. Marks are sorted by x so that the arrow keys walk through them in reading order."""
    ordered = sorted(marks, key=lambda mark: (mark.x, mark.y))
    data = json.dumps([[round(m.x, 1), round(m.y, 1), m.words] for m in ordered], ensure_ascii=False)
    data = data.replace("<", "\\u003c")
    cursor = element("circle", class_="cursor", r=6.0)
    drawing = element(
        "svg",
        f"<title>{html.escape(label)}</title>{body}{cursor}",
        viewBox=f"0 0 {size.width:g} {size.height:g}",
        role="img",
        tabindex="0",
        aria_label=f"{label} Use the arrow keys to visit {len(ordered)} points.",
    )
    return f'<div class="plot">{drawing}<script type="application/json">{data}</script></div>'


def x_axis(size: Size, scale: Scale, words: Callable[[float], str], title: str = "", *, ticks: int = 6) -> str:
    """Tick labels below the plot and a title under them."""
    base = size.y_range[0]
    parts = [
        text(scale(tick), base + 17, words(tick), class_="tick", text_anchor="middle") for tick in scale.ticks(ticks)
    ]
    if title:
        middle = (size.x_range[0] + size.x_range[1]) / 2
        parts.append(text(middle, size.height - 5, title, class_="axis", text_anchor="middle"))
    return "".join([line(*_corner(size), class_="base"), *parts])


def y_axis(size: Size, scale: Scale, words: Callable[[float], str], title: str = "", *, ticks: int = 5) -> str:
    """Horizontal grid lines with their labels, and a title turned along the axis."""
    left, right = size.x_range
    parts = []
    for tick in scale.ticks(ticks):
        y = scale(tick)
        parts += [
            line(left, y, right, y, class_="grid"),
            text(left - 8, y + 4, words(tick), class_="tick", text_anchor="end"),
        ]
    if title:
        middle = (size.y_range[0] + size.y_range[1]) / 2
        parts.append(
            text(0, 0, title, class_="axis", text_anchor="middle", transform=f"translate(13 {middle:g}) rotate(-90)")
        )
    return "".join(parts)


def _corner(size: Size) -> tuple[float, float, float, float]:
    left, right = size.x_range
    return left, size.y_range[0], right, size.y_range[0]
