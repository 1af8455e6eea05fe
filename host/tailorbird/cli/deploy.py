"""`tailorbird deploy` and `rollback`: what a device serves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.devices import deployment_table
from tailorbird.cli.screen import DeviceOption, JsonOption, Screen
from tailorbird.config import parse_us
from tailorbird.types import Deployment
from tailorbird.units import byte_words


@dataclass(frozen=True, slots=True)
class RollbackResult:
    """Result of `rollback`: where the model stands now."""

    device: str
    deployment: Deployment
    schema: str = "tailorbird.rollback/1"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("deploy")(deploy)
    app.command("rollback")(rollback)


def deploy(
    compiled: Annotated[Path, typer.Argument(help="Artifact folder of `compile`, or a bundle folder.")],
    *,
    device: DeviceOption = "local",
    policy: Annotated[str, typer.Option("--policy", help="Adaptation policy.")] = "two-channel",
    slo: Annotated[str | None, typer.Option("--slo", help="Deadline, e.g. 25ms; by default the bundle's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Push a bundle, check it on the device against torch's outputs, and move traffic to it."""
    from tailorbird.bundle import Bundle
    from tailorbird.flow.deploy import deploy as run

    screen = Screen(as_json=as_json)
    slo_us = None if slo is None else parse_us(slo)
    folder = compiled / "bundle" if (compiled / "bundle").is_dir() else compiled
    bundle = Bundle.load(folder)
    with screen.workspace() as workspace, screen.busy(f"Deploying to {device}") as progress:
        with workspace.device(device) as board:
            result = run(board, bundle, policy=policy, slo_us=slo_us, note=progress.note)
        progress.cached = result.unchanged
    sent = "nothing to send" if not result.sent_bytes else f"{byte_words(result.sent_bytes)} sent"
    state = "it already served this bundle" if result.unchanged else f"{sent}, active in {result.activate_s:.1f} s"
    screen.show(result, [deployment_table((result.deployment,))], [f"bundle {result.bundle[:12]}: {state}"])


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    *,
    device: DeviceOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Return to the bundle that served before."""
    screen = Screen(as_json=as_json)
    with (
        screen.workspace() as workspace,
        screen.busy(f"Rolling back {model} on {device}"),
        workspace.device(device) as board,
    ):
        result = RollbackResult(board.name, board.rollback(model))
    screen.show(result, [deployment_table((result.deployment,))])
