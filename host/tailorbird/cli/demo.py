"""`tailorbird demo`: the whole pipeline on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.compile_ import builds_table
from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.cli.serve import lanes_table
from tailorbird.cli.table import Table
from tailorbird.errors import UsageError
from tailorbird.ui.facts import card_facts, sensor_facts
from tailorbird.ui.run import Run, Serving, Switch

MODELS = ("digits", "resnet20-cifar10")


@dataclass(frozen=True, slots=True)
class LaneAdvantage:
    """Effective accuracy of the adaptive lane minus another's, paired by request; half width of its 95 % interval."""

    over: str
    difference: float
    half_width: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Result of `demo`: the run document, where it lies, and how the lanes compare."""

    seconds: float
    report: str
    run: Run
    advantages: tuple[LaneAdvantage, ...]
    schema: str = "tailorbird.demo/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    *,
    model: Annotated[str, typer.Option("--model", help=f"{' or '.join(MODELS)}.")] = MODELS[0],
    data: Annotated[
        Path | None, typer.Option("--data", help="For resnet20-cifar10: folder with cifar10.zip and the weights.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.html and run.json.")] = Path(
        "tailorbird-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Smallest budgets: everything runs, nothing is polished.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Take nothing from the cache.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train, make elastic, search, compile, deploy and serve a small network on this machine, in about two minutes."""
    from tailorbird.demo.pipeline import ADAPTIVE, LARGE, SMALL, Demo
    from tailorbird.demo.plan import plan_for
    from tailorbird.flow.serve import advantage
    from tailorbird.supernet.page import page as laid_out

    screen = Screen(as_json=as_json)
    if model not in MODELS:
        raise UsageError(f"there is no demo model {model!r}", fix=f"use {' or '.join(MODELS)}")
    with (
        screen.workspace(fresh=fresh) as workspace,
        Demo(workspace, plan_for(model, quick=quick), model=model, data=data) as run,
    ):
        with screen.busy("1/9 Train the base network") as progress:
            net, splits = run.prepare(progress.note)
            progress.done(run.stages[-1])
        with screen.busy("2/9 Make it elastic") as progress:
            network = run.make_elastic(net, splits)
            progress.done(run.stages[-1])
        screen.detail([laid_out(network.net.report)])
        with screen.busy("3/9 Fine-tune all subnets") as progress:
            network, _ = run.fine_tune(network, splits, progress.note)
            progress.done(run.stages[-1])
        with screen.busy("4/9 Start the agent") as progress:
            _, status = run.start_agent()
            progress.done(run.stages[-1])
        facts = (*card_facts(status.card), *sensor_facts(status.sensors))
        screen.detail([Table(f"device card of {status.card.name}", ("property", "value"), facts, words=("value",))])
        with screen.busy("5/9 Profile, predict and search") as progress:
            found = run.search(network, splits, progress.note)
            progress.done(run.stages[-1])
        with screen.busy("6/9 Compile, tune and measure") as progress:
            outcome = run.compile(found, splits, progress.note)
            progress.done(run.stages[-1])
        screen.detail([builds_table(outcome)])
        with screen.busy("7/9 Deploy the bundle") as progress:
            _, slo_us = run.deploy(outcome, splits, progress.note)
            progress.done(run.stages[-1])
        with screen.busy("8/9 Serve under a burner") as progress:
            serving = run.serve(outcome, splits, slo_us, progress.note)
            progress.done(run.stages[-1])
        with screen.busy("9/9 Write the report"):
            document, page = run.report(output, found, outcome, splits, status, serving)
    gains = tuple(LaneAdvantage(other, *advantage(serving.requests, ADAPTIVE, other)) for other in (LARGE, SMALL))
    result = DemoResult(sum(stage.seconds for stage in document.stages), str(page.absolute()), document, gains)
    screen.show(result, [lanes_table(serving.lanes, serving.slo_us), *_why_table(serving)], _notes(result))


def _why_table(serving: Serving) -> list[Table]:
    rows = tuple(_switch_row(switch) for switch in serving.switches)
    return (
        [Table("why", ("time", "rungs", "cause", "reason"), rows, words=("rungs", "cause", "reason"))] if rows else []
    )


def _switch_row(switch: Switch) -> tuple[str, str, str, str]:
    return f"{switch.at_s:.2f} s", f"{switch.from_rung} -> {switch.to_rung}", switch.cause, switch.message


def _notes(result: DemoResult) -> list[str]:
    gains = [
        f"two-channel against {gain.over}: {100 * gain.difference:+.1f} +-{100 * gain.half_width:.1f} points of "
        "effective accuracy (95 %)"
        for gain in result.advantages
    ]
    return [*gains, f"{result.seconds:.0f} s in all; report: {result.report}"]


def _listed(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
