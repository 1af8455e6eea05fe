"""`tailorbird train`: fine-tune all subnets together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.screen import DataOption, JsonOption, Screen, Table
from tailorbird.config import parse_seconds
from tailorbird.units import share_words


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of `train`. Accuracies are fractions on the validation split."""

    artifact: str
    cached: bool
    model: str
    steps: int
    seconds: float
    full_before: float
    full_after: float
    smallest_after: float
    first_loss: float
    last_loss: float
    update_kept: float
    schema: str = "tailorbird.train/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train")(train)


def train(
    supernet: Annotated[Path, typer.Argument(help="Artifact folder of `supernet` (or of `train`, to go on).")],
    *,
    data: DataOption,
    budget: Annotated[str, typer.Option("--budget", help="Time to train, e.g. 30s, 10m or 2h.")] = "10m",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Stop earlier, after this many steps.")] = None,
    rate: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 0.02,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Images per step.")] = 64,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune by the sandwich rule with in-place distillation. Exit 3 when the full network lost over 0.5 points."""
    from tailorbird.flow.data import load_splits
    from tailorbird.flow.network import open_network
    from tailorbird.flow.train import train as run

    screen = Screen(as_json=as_json)
    seconds = parse_seconds(budget)
    with screen.workspace() as workspace, screen.busy("Fine-tuning all subnets") as progress:
        splits = load_splits(data)
        network, document = run(
            workspace,
            open_network(supernet),
            splits,
            data=data,
            budget_s=seconds,
            steps=steps,
            lr=rate,
            batch=batch,
            note=progress.note,
        )
        progress.cached = network.result.hit
    result = TrainResult(
        artifact=str(network.result.folder),
        cached=network.result.hit,
        model=network.name,
        steps=document.steps,
        seconds=document.seconds,
        full_before=document.full_before,
        full_after=document.full_after,
        smallest_after=document.smallest_after,
        first_loss=document.first_loss,
        last_loss=document.last_loss,
        update_kept=document.update_kept,
    )
    table = Table(
        f"{network.name}: {document.steps} steps in {document.seconds:.1f} s",
        ("network", "before", "after"),
        (
            ("full", share_words(document.full_before), share_words(document.full_after)),
            ("smallest", "-", share_words(document.smallest_after)),
        ),
    )
    screen.show(result, [table], [f"artifact: {result.artifact}{' (cached)' if result.cached else ''}"])
    document.check()
