"""A report as a page to read: what matters first, repeated layers in one row; plain, for a terminal, for a notebook."""

from __future__ import annotations

import html
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tailorbird.supernet.report import ElasticDimension, PinnedDimension, Place, Report
from tailorbird.supernet.roles import NORM
from tailorbird.supernet.runs import Run, find_runs
from tailorbird.units import byte_words, count_words, share_words, significant

_MOST_ROWS = 24  # of elastic dimensions on a page; the rows that save most stay
_MOST_PLACES = 2
_MOST_NAMES = 3
#: Reasons every network has come last; an op without a rule comes first.
_ORDINARY = {"divisor": 2, "options": 2, "output": 3, "input": 4}
_WORDS = {"kernel": "kernel size", "depth": "blocks"}


@dataclass(frozen=True, slots=True)
class Section:
    """A titled table; `rest` tells what was left out."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Sections between a heading and notes."""

    heading: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...]

    def plain(self) -> str:
        """Lines of text, columns aligned by spaces; the same for the same report wherever it is printed."""
        blocks = ["\n".join(self.heading), *map(_plain, self.sections), "\n".join(self.notes)]
        return "\n\n".join(block for block in blocks if block) + "\n"

    def rich(self) -> RenderableType:
        """Tables for a terminal."""
        parts: list[RenderableType] = [Text(self.heading[0], style="bold"), *map(Text, self.heading[1:])]
        for section in self.sections:
            parts += [Text(""), _table(section)]
            if section.rest:
                parts.append(Text(section.rest, style="dim"))
        return Group(*parts, *([Text("")] if self.notes else []), *map(Text, self.notes))

    def html(self) -> str:
        """Tables for a notebook."""
        parts = [f"<p>{'<br>'.join(map(html.escape, self.heading))}</p>", *map(_html, self.sections)]
        return "\n".join([*parts, *(f"<p>{html.escape(note)}</p>" for note in self.notes)])


def page(report: Report, *, everything: bool = False) -> Page:
    """Lay a report out. everything: each dimension and axis in a row of its own, nothing left out."""
    shrinks = f"{share_words(report.elastic_fraction)} of the parameters can shrink"
    seconds = f"; built in {significant(report.build_seconds)} s" if report.build_seconds else ""
    sized = [d for d in report.dimensions if not d.is_block]
    blocks = [d for d in report.dimensions if d.is_block]
    return Page(
        heading=(
            f"{report.model}: {', '.join(report.inputs)}",
            f"{subnet_words(report.subnets)} subnets; {shrinks}{seconds}",
        ),
        sections=tuple(
            section
            for section in (
                _figures(report),
                _elastic(sized, report.params_full, everything=everything),
                _skippable(blocks, report, everything=everything),
                _pinned(report.pinned, report.unknown_ops, everything=everything),
            )
            if section.rows
        ),
        notes=report.notes,
    )


def subnet_words(number: int) -> str:
    """A number of subnets: exact while it can be read, then its power of ten."""
    return f"{number:,}" if number < 10**9 else f"about 10^{len(str(number)) - 1}"


def percent_words(share: float) -> str:
    """A percentage in as few digits as it takes."""
    return f"{share:.0f}" if share >= 9.5 else f"{share:.1f}" if share >= 0.05 else "<0.1" if share > 0 else "0"


def what_words(dimension: ElasticDimension) -> str:
    """What a dimension is: "out-channels", "heads"; "" where its name says so already."""
    named = dimension.name.rpartition(":")[2].partition("#")[0]
    return "" if named == dimension.what else _WORDS.get(dimension.what, dimension.what)


def place_words(place: Place, home: str) -> str:
    """A place from a module's point of view: ".bn1" is its neighbour, "in-features of ..proj" its parent's."""
    parts = home.split(".")
    name = place.module
    for up, dots in ((1, "."), (2, "..")):
        outer = ".".join(parts[:-up])
        if outer and name.startswith(f"{outer}."):
            name = dots + name.removeprefix(f"{outer}.")
            break
    return name if place.role == NORM else f"{place.role} of {name}"


def home_of(dimension: ElasticDimension) -> str:
    """The module a dimension is named after."""
    return dimension.name.partition(":")[0].partition("#")[0]


def _figures(report: Report) -> Section:
    rows = (
        ("full", report.params_full, report.macs_full, report.peak_bytes_full),
        ("smallest", report.params_smallest, report.macs_smallest, report.peak_bytes_smallest),
    )
    return Section(
        "",
        ("subnet", "parameters", "MACs", "peak activations"),
        tuple((name, count_words(params), count_words(macs), byte_words(peak)) for name, params, macs, peak in rows),
    )


def _elastic(found: Sequence[ElasticDimension], total: int, *, everything: bool) -> Section:
    runs = find_runs((d, d.name if everything else (d.kind, d.what, d.size, d.choices)) for d in found)
    kept = runs if everything else _heaviest(runs, _MOST_ROWS)
    rows = [
        (
            f"{run.words} {what_words(run.first)}".rstrip(),
            f"{run.first.size}{' each' if run.is_repeated else ''}",
            " ".join(map(str, run.first.choices)),
            _saved(run, total),
            _moves(run, len(run.first.places) if everything else _MOST_PLACES),
        )
        for run in kept
    ]
    hidden = sum(len(run.items) for run in runs) - sum(len(run.items) for run in kept)
    return Section(
        f"elastic: {_counted(len(found), 'dimension')} (saves: share of the parameters gone at its smallest choice)",
        ("dimension", "full", "choices", "saves", "moves with"),
        tuple(rows),
        f"and {_counted(hidden, 'dimension')} that save less (--all)" if hidden else "",
    )


def _heaviest(runs: Sequence[Run[ElasticDimension]], most: int) -> list[Run[ElasticDimension]]:
    weights = sorted((sum(d.params_saved for d in run.items) for run in runs), reverse=True)
    least = weights[most - 1] if len(weights) > most else 0
    return [run for run in runs if sum(d.params_saved for d in run.items) >= least][:most]


def _saved(run: Run[ElasticDimension], total: int) -> str:
    """The share of all parameters that go at the smallest choice; of several, a range."""
    shares = sorted(100 * d.params_saved / max(total, 1) for d in run.items)
    if shares[-1] == 0:
        return "MACs only"
    low, high = percent_words(shares[0]), percent_words(shares[-1])
    return f"{high} %" if low == high else f"{low} to {high} %"


def _moves(run: Run[ElasticDimension], most: int) -> str:
    each = [_place_list(d, most) for d in run.items]
    if len(set(each)) == 1:
        return each[0]
    shared = [words for words in _places(run.first) if all(words in _places(d) for d in run.items[1:])]
    return ", ".join([*shared[:most], "others"])


def _places(dimension: ElasticDimension) -> tuple[str, ...]:
    home = home_of(dimension)
    return tuple(place_words(place, home) for place in dimension.places if place.module != home)


def _place_list(dimension: ElasticDimension, most: int) -> str:
    return _listed(_places(dimension), most)


def _skippable(found: Sequence[ElasticDimension], report: Report, *, everything: bool) -> Section:
    runs = find_runs((d, d.name if everything else None) for d in found)
    stages = [f"{stage.name} ({len(stage.layers)})" for stage in report.stages if len(stage.layers) > 1]
    return Section(
        f"can be skipped: {_counted(len(found), 'block')}",
        ("block", "saves"),
        tuple((run.words, _saved(run, report.params_full) + (" each" if run.is_repeated else "")) for run in runs),
        f"stages of which the first layers can be kept: {', '.join(stages)}" if stages else "",
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    size: int
    what: str


def _pinned(found: Sequence[PinnedDimension], unknown: Sequence[str], *, everything: bool) -> Section:
    reasons: dict[tuple[str, str], list[PinnedDimension]] = {}
    for axis in found:
        reasons.setdefault((axis.op, axis.reason), []).append(axis)

    def weight(item: tuple[tuple[str, str], list[PinnedDimension]]) -> int:
        op, reason = item[0]
        return 0 if f"{op}: {reason}" in unknown else _ORDINARY.get(op, 1)

    order = sorted(reasons.items(), key=weight)
    return Section(
        f"pinned: {_counted(len(found), 'axis', 'axes')}",
        ("why", "op", "what keeps its size", "line"),
        tuple(
            (reason, op, _axes(axes, everything=everything), _lines(axes, everything=everything))
            for (op, reason), axes in order
        ),
    )


def _axes(found: Sequence[PinnedDimension], *, everything: bool) -> str:
    axes = dict.fromkeys(_Axis(p.module or p.name, p.size, p.what) for p in found)
    keys: list[tuple[_Axis, Hashable]] = [(axis, axis if everything else (axis.what, axis.size)) for axis in axes]
    words = [f"{run.words} {run.first.what}, {run.first.size}" for run in find_runs(keys)]
    return _listed(words, len(words) if everything else _MOST_NAMES, "; ")


def _lines(found: Sequence[PinnedDimension], *, everything: bool) -> str:
    lines = list(dict.fromkeys(_shortened(p.line) for p in found if p.line))
    return _listed(lines, len(lines) if everything else 1)


def _shortened(line: str) -> str:
    here = f"{Path.cwd()}/"
    return line.removeprefix(here)


def _listed(words: Sequence[str], most: int, between: str = ", ") -> str:
    more = len(words) - most
    return between.join([*words[:most], *([f"{more} more"] if more > 0 else [])])


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# -- the three forms


def _plain(section: Section) -> str:
    columns = section.columns
    rows: list[tuple[str, ...]]
    if columns[0] == "dimension":  # "layer2.0.conv1 out-channels, 128: 32 64 96 128"
        rows = [(f"{r[0]}, {r[1]}: {r[2]}", f"saves {r[3]}", f"with {r[4]}" if r[4] else "") for r in section.rows]
    elif columns[0] == "why":
        rows = [(f"{r[0]} ({', '.join(filter(None, (r[1], r[3])))}): {r[2]}",) for r in section.rows]
    elif columns[0] == "block":
        rows = [(r[0], f"saves {r[1]}") for r in section.rows]
    else:
        rows = [columns, *section.rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*([section.title] if section.title else []), *lines, *([section.rest] if section.rest else [])])


_NUMBERS = {"full", "saves", "parameters", "MACs", "peak activations"}


def _table(section: Section) -> Table:
    table = Table(
        title=section.title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for column in section.columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*map(escape, row))
    return table


def _html(section: Section) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in section.columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
        for row in section.rows
    )
    rest = f"<p>{html.escape(section.rest)}</p>" if section.rest else ""
    title = f"<p><b>{html.escape(section.title)}</b></p>" if section.title else ""
    return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"
