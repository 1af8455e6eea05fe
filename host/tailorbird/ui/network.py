"""The graph of a SuperNet as one self-contained page; its panel of groups is complete without the script."""

from __future__ import annotations

import html
import math
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from tailorbird.document import dump_document
from tailorbird.units import byte_words, count_words, share_words

if TYPE_CHECKING:  # both pull in torch
    from tailorbird.supernet.atlas import Atlas
    from tailorbird.supernet.page import Page
    from tailorbird.supernet.report import ElasticDimension, Report

_GOLDEN_ANGLE = 137.508  # degrees: consecutive hues lie as far apart as they can
#: Lightness and chroma of three shades in turn, on paper and at night: neighbours differ in more than hue.
_SHADES = (((0.60, 0.15), (0.74, 0.13)), ((0.70, 0.14), (0.84, 0.11)), ((0.50, 0.16), (0.65, 0.15)))


def render_network(report: Report, atlas: Atlas) -> str:
    """The whole page as text; everything from the network is escaped."""
    from tailorbird.supernet.page import page

    assets = files("tailorbird.ui") / "assets"
    style, script, layout = (
        (assets / name).read_text(encoding="utf-8") for name in ("network.css", "network.js", "dagre.min.js")
    )
    title = f"{report.model}: what moves together"
    data = dump_document(atlas).replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)} - Tailorbird</title>\n<style>\n{style}{colours(len(report.dimensions))}</style>\n"
        f"</head>\n<body>\n<aside>{_header(report)}{_panel(report)}{_pinned(page(report))}</aside>\n"
        f'<main>{_TOOLS}<svg id="stage" role="img" aria-label="{html.escape(title)}"></svg>'
        "<noscript><p>The drawing needs JavaScript; the list of groups beside it does not.</p></noscript></main>\n"
        '<div id="tip" role="status" aria-live="polite"></div>\n'
        f'<script type="application/json" id="atlas">{data}</script>\n'
        f"<script>\n{layout}</script>\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def colours(count: int) -> str:
    """CSS variables --d0, --d1, ...: a colour for each dimension, on light and on dark ground."""
    rules = []
    for index in range(count):
        hue = math.fmod(200 + index * _GOLDEN_ANGLE, 360)
        (light, light_chroma), (dark, dark_chroma) = _SHADES[index % len(_SHADES)]
        pair = f"oklch({light} {light_chroma} {hue:.0f}), oklch({dark} {dark_chroma} {hue:.0f})"
        rules.append(f"--d{index}: light-dark({pair});")
    return f":root {{ {' '.join(rules)} }}\n" if rules else ""


def _header(report: Report) -> str:
    from tailorbird.supernet.page import subnet_words

    tiles = (
        ("subnets", subnet_words(report.subnets), ""),
        ("can shrink", share_words(report.elastic_fraction), "of the parameters"),
        ("parameters", count_words(report.params_full), f"down to {count_words(report.params_smallest)}"),
        ("MACs", count_words(report.macs_full), f"down to {count_words(report.macs_smallest)}"),
        ("peak activations", byte_words(report.peak_bytes_full), f"down to {byte_words(report.peak_bytes_smallest)}"),
    )
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}<small>{html.escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    notes = "".join(f'<p class="soft">{html.escape(note)}</p>' for note in report.notes)
    return (
        f"<header><h1>{_breakable(report.model)}</h1>"
        f'<p class="soft">{html.escape(", ".join(report.inputs))}</p></header>'
        f'<dl class="tiles">{cells}</dl>{notes}'
        '<input id="search" type="search" placeholder="Find a module, an op or a group" aria-label="Search">'
    )


def _panel(report: Report) -> str:
    sized = [(i, d) for i, d in enumerate(report.dimensions) if not d.is_block]
    blocks = [(i, d) for i, d in enumerate(report.dimensions) if d.is_block]
    parts = []
    if sized:
        rows = "".join(_row(i, d, report.params_full) for i, d in sized)
        title = f"<h2>Moves together <span>{len(sized)}</span></h2>"
        parts.append(f'<section>{title}<ul id="groups">{rows}</ul></section>')
    if blocks:
        rows = "".join(_block(i, d, report.params_full) for i, d in blocks)
        parts.append(
            f'<section><h2>Can be skipped <span>{len(blocks)}</span></h2><ul id="blocks">{rows}</ul></section>'
        )
    return "".join(parts)


def _row(index: int, dimension: ElasticDimension, total: int) -> str:
    from tailorbird.supernet.page import home_of, percent_words, place_words, what_words

    home = home_of(dimension)
    places = [place_words(place, home) for place in dimension.places if place.module != home]
    choices = " ".join(map(str, dimension.choices))
    saved = (
        f"{percent_words(100 * dimension.params_saved / max(total, 1))} %" if dimension.params_saved else "MACs only"
    )
    more = f"<small>with {html.escape(', '.join(places))}</small>" if places else ""
    return (
        f'<li><button type="button" data-d="{index}" style="--c:var(--d{index})"><i></i>'
        f"<b>{_breakable(dimension.name)}</b><u>{saved}</u>"
        f"<p><span>{html.escape(what_words(dimension))}</span><em>{choices}</em></p>{more}</button></li>"
    )


def _block(index: int, dimension: ElasticDimension, total: int) -> str:
    from tailorbird.supernet.page import percent_words

    saved = percent_words(100 * dimension.params_saved / max(total, 1))
    return (
        f'<li><button type="button" class="block" data-d="{index}"><i></i>'
        f"<b>{_breakable(dimension.name)}</b><u>{saved} %</u></button></li>"
    )


def _breakable(name: str) -> str:
    """A name that may be broken after its dots and between its words."""
    return re.sub(r"(?<=\.)|(?<=_)(?=\w)|(?<=[a-z])(?=[A-Z])", "<wbr>", html.escape(name))


def _pinned(page: Page) -> str:
    section = next((section for section in page.sections if section.columns[0] == "why"), None)
    if section is None:
        return ""
    rows = "".join(
        f"<li><b>{html.escape(why)}</b> <span>{html.escape(', '.join(filter(None, (op, line))))}</span>"
        f"<small>{html.escape(what)}</small></li>"
        for why, op, what, line in section.rows
    )
    return f'<section><h2>Keeps its size <span></span></h2><ul id="pinned">{rows}</ul></section>'


_TOOLS = (
    '<nav><button type="button" id="less" title="Collapse one level">Less</button>'
    '<button type="button" id="more" title="Expand one level">More</button>'
    '<button type="button" id="fit" title="Show everything">Fit</button>'
    '<button type="button" id="in" title="Zoom in" aria-label="Zoom in">+</button>'
    '<button type="button" id="out" title="Zoom out" aria-label="Zoom out">&minus;</button>'
    '<button type="button" id="theme" title="Light or dark">Light / dark</button></nav>'
    '<ul class="key"><li><i class="swatch"></i>channels that move together share a colour</li>'
    '<li><i class="swatch fixed"></i>keeps its size</li><li><i class="swatch skip"></i>can be skipped</li>'
    "<li>click a module to open or close it</li></ul>"
)
