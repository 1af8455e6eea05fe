"""A matrix of rank correlations as a picture: one SVG file with its colours in it, readable without colour."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailorbird.ui.svg import element, text

_CELL_W, _CELL_H, _GAP = 74.0, 46.0, 3.0
_LETTER = 6.6  # pixels per letter of 12 px text, about
_STYLE = """
text{font:12px system-ui,sans-serif;fill:#1d2733}.head{font-weight:600;font-size:15px}.soft{fill:#5b6773}
.value{font-size:14px;font-weight:600;text-anchor:middle}.count{font-size:10.5px;text-anchor:middle}
.light{fill:#fff}.end{text-anchor:end}.serves{fill:none;stroke:#0b3d5c;stroke-width:2.5}
.unknown{fill:#f1f3f5;stroke:#aeb8c2;stroke-width:1;stroke-dasharray:4 3}
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair: the correlation or None, how many subnets it stands on, whether it is good enough, words for it."""

    value: float | None
    count: int
    serves: bool
    words: str


def heatmap(title: str, names: Sequence[str], cell: Callable[[str, str], Cell]) -> str:
    """The matrix: a row for each target, a column for each proxy. Cells that serve are framed, unknown ones dashed."""
    labels = [f"{number}  {name}" for number, name in enumerate(names, 1)]
    left = 28.0 + _LETTER * max(map(len, labels))
    top = 92.0
    width = max(left + len(names) * _CELL_W + 20, 430.0, 40 + 8.2 * len(title))
    height = top + len(names) * _CELL_H + 56
    parts = [
        element("style", _STYLE),
        element("rect", width=width, height=height, fill="#fff"),
        text(20, 30, title, class_="head"),
        text(20, 50, "Spearman rank correlation of subnet latencies; below it, common subnets", class_="soft"),
        text(left - 10, top - 12, "target", class_="soft end"),
    ]
    for column in range(len(names)):
        middle = left + (column + 0.5) * _CELL_W
        parts.append(text(middle, top - 12, f"{'proxy ' if column == 0 else ''}{column + 1}", class_="count soft"))
    for row, target in enumerate(names):
        y = top + row * _CELL_H
        parts.append(text(left - 10, y + _CELL_H / 2 + 4, labels[row], class_="end"))
        parts += [
            _cell(cell(proxy, target), left + column * _CELL_W, y, own=proxy == target)
            for column, proxy in enumerate(names)
        ]
    parts.append(_key(20.0, height - 24))
    body = f"<title>{html.escape(title)}</title>{''.join(parts)}"
    view = f"0 0 {width:g} {height:g}"
    name = "http://www.w3.org/2000/svg"
    return element("svg", body, xmlns=name, role="img", width=width, height=height, viewBox=view) + "\n"


def _cell(shown: Cell, x: float, y: float, *, own: bool) -> str:
    box = {"x": x, "y": y, "width": _CELL_W - _GAP, "height": _CELL_H - _GAP, "rx": 4.0}
    middle = x + (_CELL_W - _GAP) / 2
    if own:
        return element("rect", class_="own", fill="#fafbfc", **box)
    words = element("title", html.escape(shown.words))
    if shown.value is None:
        face = element("rect", class_="unknown", **box)
        value = text(middle, y + 20, "?", class_="value soft")
        return element("g", words + face + value + text(middle, y + 35, str(shown.count), class_="count soft"))
    dark = shown.value > 0.88
    face = element("rect", fill=_colour(shown.value), **box)
    frame = element("rect", class_="serves", **box) if shown.serves else ""
    ink = " light" if dark else ""
    value = text(middle, y + 20, f"{shown.value:.2f}", class_="value" + ink)
    return element("g", words + face + frame + value + text(middle, y + 35, str(shown.count), class_="count" + ink))


def _colour(value: float) -> str:
    """White at 0 and below, through light to dark blue at 1; steeper near 1, where the decision lies."""
    share = max(value, 0.0) ** 3
    pale, deep = (238, 244, 249), (13, 92, 138)
    mixed = (round(p + share * (d - p)) for p, d in zip(pale, deep, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _key(x: float, y: float) -> str:
    framed = element("rect", class_="serves", x=x, y=y - 11, width=16.0, height=13.0, rx=2.0)
    dashed = element("rect", class_="unknown", x=x + 190, y=y - 11, width=16.0, height=13.0, rx=2.0)
    words = text(x + 24, y, "0.9 and above: serves it") + text(x + 214, y, "not known")
    return framed + dashed + words
