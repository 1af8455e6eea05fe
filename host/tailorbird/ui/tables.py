"""The report's tables and lists, as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tailorbird.types import DeviceCard, Sensors
from tailorbird.ui.facts import card_facts, sensor_facts
from tailorbird.ui.run import LaneSummary, RungRow, Switch
from tailorbird.units import count_words, share_words, time_words


def lane_table(lanes: Sequence[LaneSummary]) -> str:
    """Misses and effective accuracy of each lane. The 90th percentile needs 64 requests; fewer print a dash."""
    return _table(
        "Lanes",
        ("lane", "requests", "late", "effective accuracy", "ladder-weighted", "accuracy", "p50", "p90", "switches"),
        (
            (
                lane.lane,
                str(lane.requests),
                f"{lane.misses} ({share_words(lane.miss_share)})",
                f"{share_words(lane.effective_accuracy)} ±{100 * lane.effective_half_width:.1f}",
                share_words(lane.weighted_accuracy),
                share_words(lane.accuracy),
                time_words(lane.p50_us),
                "-" if lane.p90_us is None else time_words(lane.p90_us),
                str(lane.switches),
            )
            for lane in lanes
        ),
    )


def rung_table(rungs: Sequence[RungRow]) -> str:
    """The ladder with both accuracies, both latencies, sizes, and what each runtime measured."""
    runtimes = sorted({build.runtime for rung in rungs for build in rung.builds})
    rows = []
    for rung in rungs:
        builds = {build.runtime: build for build in rung.builds}
        rows.append(
            (
                rung.name,
                share_words(rung.accuracy),
                "-" if rung.test_accuracy is None else share_words(rung.test_accuracy),
                time_words(rung.predicted_us),
                time_words(rung.measured_us),
                *(time_words(builds[name].measured_us) if name in builds else "-" for name in runtimes),
                rung.runtime,
                count_words(rung.macs),
                count_words(rung.params),
            )
        )
    heads = ("rung", "validation", "test", "predicted", "measured", *runtimes, "ships", "MACs", "parameters")
    return _table("Rungs", heads, rows)


def switch_table(switches: Sequence[Switch], names: Sequence[str]) -> str:
    """Every switch with its reason; a step down in the ladder is coloured apart from a step up."""
    if not switches:
        return '<p class="soft">The policy kept one rung for the whole run.</p>'
    order = {name: i for i, name in enumerate(names)}
    rows = "".join(
        f"<tr><td>{s.at_s:.2f} s</td><td>{html.escape(s.from_rung)} → {html.escape(s.to_rung)}</td>"
        f'<td class="cause"><span class="chip{" down" if order.get(s.to_rung, 0) < order.get(s.from_rung, 0) else ""}">'
        f'{html.escape(s.cause)}</span></td><td class="words">{html.escape(s.message)}</td></tr>'
        for s in switches
    )
    head = '<tr><th scope="col">time</th><th scope="col">rungs</th><th scope="col" class="words">cause</th>'
    return _scroll(
        "Switches", f'<thead>{head}<th scope="col" class="words">reason</th></tr></thead><tbody>{rows}</tbody>'
    )


def card_list(card: DeviceCard, sensors: Sensors | None) -> str:
    """The device card; a sensor the machine lacks is "unavailable"."""
    return (
        '<dl class="card">'
        + "".join(
            f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
            for name, value in (*card_facts(card), *sensor_facts(sensors))
        )
        + "</dl>"
    )


def _table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return _scroll(label, f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>")


def _scroll(label: str, rows: str) -> str:
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{label}"><table>{rows}</table></div>'
