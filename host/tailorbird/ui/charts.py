"""The report's charts. Each is drawn for a wide and for a narrow page; style sheet classes carry the colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tailorbird.ui.plot import Mark, Size, svg_plot, x_axis, y_axis
from tailorbird.ui.run import Burst, FrontPoint, PredictionPoint, Request, RungRow, Serving, Switch
from tailorbird.ui.svg import Scale, crosses, dots, element, line, path, text
from tailorbird.units import share_words, significant, time_words

Draw = Callable[[float], str]
WIDE, HALF, NARROW = 1040.0, 512.0, 360.0


def responsive(draw: Draw, *, wide: float = WIDE) -> str:
    """The same chart for a wide and a narrow page; the style sheet shows one of them."""
    return f'<div class="wide">{draw(wide)}</div><div class="narrow">{draw(NARROW)}</div>'


def _ms(us: float) -> str:
    return f"{us / 1e3:g}"


def pareto_chart(front: Sequence[FrontPoint], rungs: Sequence[RungRow], slo_us: float | None, width: float) -> str:
    """Predicted latency against validation accuracy of every subnet evaluated, the front, and the chosen rungs."""
    size = Size(width, 320.0)
    times = [p.predicted_us for p in front] + [r.measured_us for r in rungs]
    x = Scale.around(times, *size.x_range, log=True)
    # A few ruined subnets must not squeeze the interesting part of the axis: start it below the worst front point.
    kept = [p.accuracy for p in front if p.on_front] + [r.accuracy for r in rungs]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    shown = [p for p in front if p.accuracy >= low - 0.6 * max(high - low, 0.01)]
    y = Scale.around([p.accuracy for p in shown] + kept, *size.y_range)
    edge = sorted((p for p in shown if p.on_front), key=lambda p: p.predicted_us)
    body = y_axis(size, y, lambda v: f"{100 * v:.4g}", "accuracy, %")
    body += x_axis(size, x, _ms, "latency, ms on one core")
    if slo_us is not None and x.low < slo_us < x.high:
        body += line(x(slo_us), size.y_range[0], x(slo_us), size.y_range[1], class_="slo")
        body += text(x(slo_us) - 5, size.top + 10, "SLO", class_="slo-label", text_anchor="end")
    body += dots(((x(p.predicted_us), y(p.accuracy)) for p in shown if not p.on_front), class_="dots faint")
    body += path(((x(p.predicted_us), y(p.accuracy)) for p in edge), class_="front")
    body += dots(((x(p.predicted_us), y(p.accuracy)) for p in edge), class_="dots front-dots")
    marks = [
        Mark(
            x(p.predicted_us),
            y(p.accuracy),
            f"front: {share_words(p.accuracy)}, predicted {time_words(p.predicted_us)}",
        )
        for p in edge
    ]
    for rung in rungs:
        px, py = x(rung.measured_us), y(rung.accuracy)
        body += element("circle", class_="rung", cx=px, cy=py, r=5.5)
        body += text(px, py - 11, rung.name, class_="rung-label", text_anchor="middle")
        words = f"{rung.name}: {share_words(rung.accuracy)}, measured {time_words(rung.measured_us)} ({rung.runtime})"
        marks.append(Mark(px, py, words))
    return svg_plot(
        size, "Accuracy against latency of the evaluated subnets, with the rungs of the ladder.", body, marks
    )


def prediction_chart(points: Sequence[PredictionPoint], width: float) -> str:
    """Predicted against measured latency with the diagonal and its +-10 % band."""
    size = Size(width, 320.0)
    values = [v for p in points for v in (p.predicted_us, p.measured_us)]
    x = Scale.around(values, *size.x_range, log=True)
    y = Scale(x.low, x.high, *size.y_range, log=True)
    ends = (x.low, x.high)
    band = [(x(v), y(v * 1.1)) for v in ends] + [(x(v), y(v / 1.1)) for v in reversed(ends)]
    body = y_axis(size, y, _ms, "measured, ms") + x_axis(size, x, _ms, "predicted, ms")
    body += path(band, class_="band")
    body += path([(x(v), y(v)) for v in ends], class_="diagonal")
    body += dots(((x(p.predicted_us), y(p.measured_us)) for p in points if not p.held_out), class_="dots fitted")
    body += dots(((x(p.predicted_us), y(p.measured_us)) for p in points if p.held_out), class_="dots held-out")
    marks = [
        Mark(
            x(p.predicted_us),
            y(p.measured_us),
            f"{p.label}: predicted {time_words(p.predicted_us)}, measured {time_words(p.measured_us)} "
            f"({100 * (p.predicted_us / p.measured_us - 1):+.1f} %), {'held out' if p.held_out else 'calibration'}",
        )
        for p in points
    ]
    return svg_plot(size, "Predicted against measured latency.", body, marks)


def rung_strip(serving: Serving, rungs: Sequence[RungRow], lane: str, width: float) -> str:
    """Which rung answered the adaptive lane over time, with a mark for each switch."""
    names = [r.name for r in rungs]
    size = Size(width, 34.0 + 17.0 * max(len(names), 2), top=14.0, bottom=8.0)
    x = _time_scale(serving, size)
    y = Scale(-0.5, max(len(names), 2) - 0.5, *size.y_range)
    place = {name: y(i) for i, name in enumerate(names)}
    body = _bands(serving.bursts, x, size)
    for name, py in place.items():
        body += line(size.x_range[0], py, size.x_range[1], py, class_="grid")
        body += text(size.left - 8, py + 4, name, class_="tick", text_anchor="end")
    steps: list[tuple[float, float]] = []
    for request in serving.requests:
        if request.lane == lane and request.rung in place:
            if steps:
                steps.append((x(request.at_s), steps[-1][1]))
            steps.append((x(request.at_s), place[request.rung]))
    body += path(steps, class_="steps") if steps else ""
    marks = []
    for switch in serving.switches:
        px, py = x(switch.at_s), place.get(switch.to_rung, size.y_range[1])
        body += path([(px, py - 5.5), (px + 5.5, py), (px, py + 5.5), (px - 5.5, py), (px, py - 5.5)], class_="switch")
        marks.append(Mark(px, py, switch_words(switch)))
    return svg_plot(size, f"Rung that answered in the {lane} lane, with {len(marks)} switches.", body, marks)


def switch_words(switch: Switch) -> str:
    """One line for a switch: time, rungs, cause and the agent's message."""
    return f"{switch.at_s:.2f} s: {switch.from_rung} to {switch.to_rung}, {switch.cause}. {switch.message}"


def lane_chart(serving: Serving, lane: str, width: float, *, with_axis: bool) -> str:
    """Latency of each request of one lane over time; late answers are crosses above the SLO line."""
    size = Size(width, 150.0 if with_axis else 118.0, top=10.0, bottom=40.0 if with_axis else 8.0)
    x = _time_scale(serving, size)
    latencies = [r.latency_us for r in serving.requests]
    y = Scale.around([*latencies, serving.slo_us], *size.y_range, log=True, pad=0.04)
    mine = [r for r in serving.requests if r.lane == lane]
    body = _bands(serving.bursts, x, size) + y_axis(size, y, _ms, "ms", ticks=4)
    if with_axis:
        body += x_axis(size, x, lambda v: f"{v:g}", "seconds since serving began", ticks=8)
    body += line(size.x_range[0], y(serving.slo_us), size.x_range[1], y(serving.slo_us), class_="slo")
    body += dots(_places(mine, x, y, missed=False), class_=f"dots lane lane-{lane}")
    body += crosses(_places(mine, x, y, missed=True), 2.4, class_="late")
    marks = [Mark(x(r.at_s), y(r.latency_us), _request_words(r)) for r in mine]
    return svg_plot(size, f"Latency of the {lane} lane over time.", body, marks)


def _request_words(request: Request) -> str:
    fate = "late" if request.missed else "on time"
    return f"{request.at_s:.2f} s: {request.rung}, {significant(request.latency_us / 1e3)} ms, {fate}"


def _places(requests: Sequence[Request], x: Scale, y: Scale, *, missed: bool) -> list[tuple[float, float]]:
    return [(x(r.at_s), y(r.latency_us)) for r in requests if r.missed is missed]


def _time_scale(serving: Serving, size: Size) -> Scale:
    return Scale(0.0, max([serving.seconds, *(r.at_s for r in serving.requests[-1:])]) or 1.0, *size.x_range)


def _bands(bursts: Sequence[Burst], x: Scale, size: Size) -> str:
    return "".join(
        element(
            "rect",
            class_="burst",
            x=x(b.start_s),
            y=float(size.top),
            width=max(x(b.end_s) - x(b.start_s), 1.0),
            height=float(size.y_range[0] - size.top),
        )
        for b in bursts
    )
