"""report.html: one self-contained page drawn from a run document. No network; complete without its script."""

from __future__ import annotations

import html
from functools import partial
from importlib.resources import files

from tailorbird.document import dump_document
from tailorbird.ui.charts import HALF, lane_chart, pareto_chart, prediction_chart, responsive, rung_strip
from tailorbird.ui.run import Run, RungRow, Serving, StageTime
from tailorbird.ui.tables import card_list, lane_table, rung_table, switch_table
from tailorbird.units import share_words, time_words

#: The lane whose rung the policy chooses; the others are fixed.
ADAPTIVE = "two-channel"


def render_report(run: Run) -> str:
    """The whole page as text; everything from the document is escaped."""
    assets = files("tailorbird.ui") / "assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    script = (assets / "report.js").read_text(encoding="utf-8")
    data = dump_document(run).replace("<", "\\u003c")
    sections = [
        _tiles(run),
        _serving(run.serving, run.rungs) if run.serving else "",
        _search(run),
        _ladder(run.rungs) if run.rungs else "",
        _device(run),
        _stages(run.stages) if run.stages else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(run.title)} - Tailorbird</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{_header(run)}<main>\n{''.join(sections)}</main>\n{_FOOTER}"
        f'<div id="tip" role="status" aria-live="polite"></div>\n'
        f'<script type="application/json" id="run">{data}</script>\n<script>\n{script}</script>\n</body>\n</html>\n'
    )


def _header(run: Run) -> str:
    device = f" on {html.escape(run.card.name)} ({html.escape(run.card.cpu_model)})" if run.card else ""
    return (
        f"<header><div><h1>{html.escape(run.title)}</h1>"
        f'<p class="soft">{html.escape(run.model)}{device}. {html.escape(run.created_at)}, '
        f"tailorbird {html.escape(run.tailorbird_version)}</p></div>"
        '<button id="theme" type="button">Light / dark</button></header>\n'
        '<div class="stitch"></div>\n'
    )


def _tiles(run: Run) -> str:
    tiles: list[tuple[str, str, str]] = []
    if run.serving:
        tiles.append(("Deadline (SLO)", time_words(run.serving.slo_us), f"{run.serving.rate_hz:g} requests/s per lane"))
        tiles += [
            (
                f"Effective accuracy, {lane.lane}",
                share_words(lane.effective_accuracy),
                f"{share_words(lane.miss_share)} late, {lane.switches} switches",
            )
            for lane in run.serving.lanes
        ]
    elif run.rungs:
        tiles.append(("Rungs", str(len(run.rungs)), f"{time_words(run.rungs[0].measured_us)} and up"))
    cells = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}<small>{html.escape(note)}</small></dd></div>"
        for name, value, note in tiles
    )
    return f'<dl class="tiles">{cells}</dl>\n' if cells else ""


def _serving(serving: Serving, rungs: tuple[RungRow, ...]) -> str:
    lanes = [lane.lane for lane in serving.lanes]
    plots = [
        f"<h3>Rung in use, {html.escape(ADAPTIVE)}</h3>",
        responsive(partial(rung_strip, serving, rungs, ADAPTIVE)),
    ]
    for lane in lanes:
        last = lane == lanes[-1]
        plots += [
            f"<h3>Latency, {html.escape(lane)}</h3>",
            responsive(partial(lane_chart, serving, lane, with_axis=last)),
        ]
    key = (
        '<ul class="key"><li><i class="box busy"></i>CPU burner on</li><li><i class="rule"></i>deadline</li>'
        '<li><i style="background:var(--late)"></i>late answer (cross)</li></ul>'
    )
    note = (
        f"Every slot asks the {len(lanes)} lanes in random order, under the same burner, with test images "
        "no earlier stage has seen. Latency is what the device took: queue and run, without the client."
    )
    why = switch_table(serving.switches, [r.name for r in rungs])
    return _section(
        "Serving while the board gets busy", note, f"{lane_table(serving.lanes)}{key}{''.join(plots)}"
    ) + _section("Why it switched", "", why)


def _search(run: Run) -> str:
    parts = []
    if run.front or run.rungs:
        slo = run.serving.slo_us if run.serving else None
        note = f"{len(run.front)} subnets evaluated; circles are the rungs, as measured on the device."
        chart = responsive(partial(pareto_chart, run.front, run.rungs, slo), wide=HALF)
        parts.append(_section("Accuracy against latency", note, chart))
    if run.predictions:
        note = "The band is 10 % wide on each side; grey points set the calibration."
        if run.prediction_error is not None:
            note = f"Median error {share_words(run.prediction_error)} on held-out subnets. {note}"
        chart = responsive(partial(prediction_chart, run.predictions), wide=HALF)
        parts.append(_section("Predicted and measured latency", note, chart))
    return f'<div class="pair">{"".join(parts)}</div>\n' if parts else ""


def _ladder(rungs: tuple[RungRow, ...]) -> str:
    note = "Each rung is built for every runtime the device has; the faster one, as measured there, ships."
    return _section("The ladder", note, rung_table(rungs))


def _device(run: Run) -> str:
    if run.card is None:
        return ""
    return _section("The device", "", card_list(run.card, run.sensors))


def _stages(stages: tuple[StageTime, ...]) -> str:
    longest = max((s.seconds for s in stages), default=0.0) or 1.0
    rows = "".join(
        f"<li><span>{html.escape(s.title)}</span>"
        f'<span class="bar"><i style="width:{100 * s.seconds / longest:.1f}%"></i></span>'
        f"<b>{'cached' if s.cached else f'{s.seconds:.1f} s'}</b>"
        f"<p>{html.escape('; '.join(f'{f.name}: {f.words}' for f in s.figures))}</p></li>"
        for s in stages
    )
    total = sum(s.seconds for s in stages)
    return _section("Stages", f"{total:.1f} s in all", f'<ol class="stages">{rows}</ol>')


def _section(title: str, note: str, body: str) -> str:
    words = f'<p class="soft">{html.escape(note)}</p>' if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{words}{body}</section>\n"


_FOOTER = """<footer><dl>
<dt>Effective accuracy</dt>
<dd>Share of requests answered correctly and within the deadline; late answers count as wrong.</dd>
<dt>Ladder-weighted</dt>
<dd>The same, with the validation accuracy of the answering rung in place of the outcome of each image.</dd>
<dt>Latency of a rung</dt>
<dd>Median on-CPU time of one inference on one thread, measured on the device.</dd>
</dl></footer>
"""
