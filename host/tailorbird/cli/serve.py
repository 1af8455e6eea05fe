"""`tailorbird run` and `why`: ask a served model, and why it answered the way it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from tailorbird.cli.screen import DataOption, DeviceOption, JsonOption, Screen
from tailorbird.cli.table import Table
from tailorbird.config import parse_seconds, parse_us
from tailorbird.errors import DeviceError, GateError
from tailorbird.types import Deployment, Event
from tailorbird.ui.run import LaneSummary, Serving
from tailorbird.units import share_words, time_words

#: Event kinds `why` shows: changes of rung, and what made the caps move.
_WHY = ("switch", "infeasible", "cap")


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of `run`: how the device answered, request by request."""

    device: str
    model: str
    policy: str
    serving: Serving
    schema: str = "tailorbird.run-result/1"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of the policy: when (ISO 8601), what, and everything it was based on."""

    sequence: int
    time: str
    kind: str
    model: str
    message: str
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WhyResult:
    """Result of `why`."""

    device: str
    decisions: tuple[Decision, ...]
    schema: str = "tailorbird.why/1"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("run")(run)
    app.command("why")(why)


def run(
    model: Annotated[str | None, typer.Argument(help="Name of the model; the only one deployed by default.")] = None,
    *,
    data: DataOption,
    device: DeviceOption = "local",
    slo: Annotated[str | None, typer.Option("--slo", help="Deadline, e.g. 25ms; by default the deployment's.")] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Change the adaptation policy first.")] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Requests per second.")] = 20.0,
    duration: Annotated[str, typer.Option("--for", help="How long, e.g. 10s.")] = "10s",
    rung: Annotated[str, typer.Option("--rung", help="Pin a rung instead of leaving it to the policy.")] = "",
    most_misses: Annotated[
        float, typer.Option("--most-misses", help="Share of late answers that still counts as met.")
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Send test images to a served model and judge the answers. Exit 3 when too many were late."""
    from tailorbird.flow.data import load_splits
    from tailorbird.flow.serve import Lane, Traffic, serve

    screen = Screen(as_json=as_json)
    seconds, slo_us = parse_seconds(duration), None if slo is None else parse_us(slo)
    images, labels = load_splits(data).test
    with (
        screen.workspace() as workspace,
        screen.busy(f"Asking {device}") as progress,
        workspace.device(device) as board,
    ):
        name = model or only_model(board.deployments(), device)
        if policy is not None or slo_us is not None:
            board.set_policy(name, policy or "", slo_us)
        deployed = board.deployment(name)
        deadline = slo_us or deployed.slo_us
        if deadline is None:
            raise GateError(
                f"{name} has no deadline", why="neither the deployment nor the command sets one", fix="give --slo"
            )
        traffic = Traffic((Lane(rung or deployed.policy, rung),), rate, seconds, deadline)
        accuracy = {r.name: r.accuracy for r in deployed.rungs}
        serving = serve(board, name, traffic, images.numpy(), labels.numpy(), accuracy=accuracy, note=progress.note)
        result = RunResult(board.name, name, deployed.policy, serving)
    screen.show(result, [lanes_table(serving.lanes, deadline)], [])
    (lane,) = serving.lanes
    if lane.miss_share > most_misses:
        raise GateError(
            f"{share_words(lane.miss_share)} of the answers were late",
            why=f"the deadline is {time_words(deadline)}; at most {share_words(most_misses)} may miss it",
            fix=f"see `tailorbird why --device {device}`, or allow a longer --slo",
            reason="SLO_MISSED",
        )


def why(
    model: Annotated[str, typer.Argument(help="Name of the model; all by default.")] = "",
    *,
    device: DeviceOption = "local",
    last: Annotated[int, typer.Option("--last", "-n", min=1, help="How many decisions.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the last decisions of a device and their reasons."""
    screen = Screen(as_json=as_json)
    with screen.workspace() as workspace, workspace.device(device) as board:
        events = board.events(kinds=_WHY, model=model)[-last:]
        result = WhyResult(board.name, tuple(_decision(event) for event in events))
    screen.show(result, [decisions_table(result.decisions)], [] if events else ["no rung was switched so far"])


def lanes_table(lanes: tuple[LaneSummary, ...], slo_us: float) -> Table:
    """Misses and effective accuracy of each lane."""
    return Table(
        f"deadline {time_words(slo_us)}",
        ("lane", "requests", "late", "effective accuracy", "ladder-weighted", "accuracy", "p50", "p90", "switches"),
        tuple(
            (
                lane.lane,
                str(lane.requests),
                share_words(lane.miss_share),
                f"{share_words(lane.effective_accuracy)} +-{100 * lane.effective_half_width:.1f}",
                share_words(lane.weighted_accuracy),
                share_words(lane.accuracy),
                time_words(lane.p50_us),
                "-" if lane.p90_us is None else time_words(lane.p90_us),
                str(lane.switches),
            )
            for lane in lanes
        ),
    )


def decisions_table(decisions: tuple[Decision, ...]) -> Table:
    """One line for each decision."""
    return Table(
        "",
        ("time", "rungs", "cause", "reason"),
        tuple(
            (
                decision.time[11:19],
                _rungs(decision),
                dict(decision.details).get("cause", decision.kind),
                decision.message,
            )
            for decision in decisions
        ),
        words=("rungs", "cause", "reason"),
    )


def _rungs(decision: Decision) -> str:
    details = dict(decision.details)
    return f"{details['from']} -> {details['to']}" if {"from", "to"} <= set(details) else ""


def _decision(event: Event) -> Decision:
    moment = event.time.astimezone().isoformat(timespec="milliseconds")
    return Decision(event.sequence, moment, event.kind, event.model, event.message, event.details)


def only_model(deployments: list[Deployment], device: str) -> str:
    """The one model a device serves. Raises DeviceError when there is none, or a choice."""
    serving = [d.model for d in deployments if d.active]
    if len(serving) != 1:
        raise DeviceError(
            f"{device} serves {len(serving)} models" if serving else f"{device} serves no model",
            why=", ".join(serving),
            fix="name one of them" if serving else "deploy one with `tailorbird deploy`",
            reason="MODEL_NOT_FOUND",
        )
    return serving[0]
