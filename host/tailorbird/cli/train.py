"""`tailorbird train`: train all subnets together, or fine-tune one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tailorbird.cli.grouped import Grouped
from tailorbird.cli.screen import DataOption, JsonOption, Screen
from tailorbird.cli.table import Table
from tailorbird.config import parse_seconds
from tailorbird.errors import UsageError
from tailorbird.units import count_words, share_words

if TYPE_CHECKING:  # torch takes seconds to import; --help does without
    from tailorbird.flow.checkpoint import Checkpointing
    from tailorbird.flow.data import Data
    from tailorbird.flow.network import Network
    from tailorbird.flow.subnet import SubnetDocument
    from tailorbird.flow.task import NamedTask
    from tailorbird.flow.train import TrainingDocument
    from tailorbird.flow.workspace import Workspace
    from tailorbird.supernet.training import Recipe

_BUDGET = "10m"


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Result of `train`: the artifact and what is in its training.json."""

    artifact: str
    cached: bool
    model: str
    training: TrainingDocument
    schema: str = "tailorbird.train/2"


@dataclass(frozen=True, slots=True)
class SubnetResult:
    """Result of `train --subnet`: the artifact, the file of the subnet's weights, and what is in its subnet.json."""

    artifact: str
    cached: bool
    model: str
    weights: str
    subnet: SubnetDocument
    schema: str = "tailorbird.train-subnet/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train", cls=Grouped)(train)


def train(
    supernet: Annotated[Path, typer.Argument(help="Artifact folder of `supernet`, or of `train`, to go on.")],
    *,
    data: DataOption,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="TIME", help=f"Time to train, e.g. 30s or 2h; {_BUDGET} without --steps, --epochs."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="End after this many steps.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="End after this many passes.")] = None,
    task: Annotated[
        str,
        typer.Option(
            "--task",
            metavar="TASK",
            help="classification, segmentation, multilabel, regression, or FILE.py:callable for a Task of your own.",
        ),
    ] = "classification",
    subnet: Annotated[
        str | None,
        typer.Option("--subnet", metavar="RUNG|CONFIG", help="Fine-tune this subnet alone: a rung of a ladder, JSON."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run of these options.")] = False,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="Keep the run's state here.")
    ] = None,
    as_json: JsonOption = False,
    rate: Annotated[
        float | None,
        typer.Option("--lr", help="Peak learning rate: 0.03 for SGD, 0.0002 for AdamW.", rich_help_panel="Recipe"),
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Samples in a step: 64.", rich_help_panel="Recipe")
    ] = None,
    random: Annotated[
        int | None, typer.Option("--random", min=0, help="Random subnets in a step: 2.", rich_help_panel="Recipe")
    ] = None,
    sampling: Annotated[
        Literal["compound-first", "compound", "independent"] | None,
        typer.Option("--sampling", help="How these are drawn: compound-first.", rich_help_panel="Recipe"),
    ] = None,
    teacher: Annotated[
        Literal["frozen", "in-place"] | None,
        typer.Option("--teacher", help="The network as it was, or as it learns: frozen.", rich_help_panel="Recipe"),
    ] = None,
    distillation: Annotated[
        Literal["distance", "alpha"] | None,
        typer.Option("--distillation", help="The task's distance, or alpha-divergence.", rich_help_panel="Recipe"),
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"] | None,
        typer.Option("--precision", help="Of the forward pass: auto.", rich_help_panel="Recipe"),
    ] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", help="Decay of averaged weights: 0.99.", rich_help_panel="Recipe")
    ] = None,
    full: Annotated[
        Literal["auto", "kept", "trained"] | None,
        typer.Option(
            "--full",
            help="The full network stays as it is, or learns with the subnets: kept, unless it teaches so.",
            rich_help_panel="Recipe",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop", min=0, max=100, help="Points the full network may lose: 0.3.", rich_help_panel="Recipe"
        ),
    ] = None,
) -> None:
    """Train all subnets together by the sandwich rule, learning from the network as it was.

    The full network is protected: exit 3 when it lost more than --max-drop. Ctrl-C keeps a checkpoint (exit 130);
    the same command with --resume goes on from it.
    """
    from tailorbird.flow.checkpoint import Checkpointing
    from tailorbird.flow.data import load_data
    from tailorbird.flow.network import open_network
    from tailorbird.flow.task import NamedTask
    from tailorbird.supernet.training import Recipe

    screen = Screen(as_json=as_json)
    if budget is None and steps is None and epochs is None:
        budget = _BUDGET
    given: dict[str, Any] = {
        "budget_s": None if budget is None else parse_seconds(budget),
        "steps": steps,
        "epochs": epochs,
        "lr": rate,
        "distillation": distillation,
        "precision": precision,
        "ema": ema,
    }
    together = {
        "n_random": random,
        "sampling": sampling,
        "teacher": teacher,
        "full": full,
        "max_drop": None if max_drop is None else max_drop / 100,
    }
    if subnet is not None:
        _refuse(together)
    named = NamedTask.parse(task)
    with screen.workspace() as workspace:
        chosen = {name: value for name, value in (given | together).items() if value is not None}
        job = _Job(
            workspace,
            Recipe(**chosen, seed=workspace.settings.seed),
            named,
            batch,
            Checkpointing(checkpoint, resume),
        )
        opened, loaded = open_network(supernet), load_data(data, task)
        if subnet is None:
            _together(screen, job, opened, loaded, data)
        else:
            _alone(screen, job, opened, loaded, subnet)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is the same for all subnets and for one."""

    workspace: Workspace
    recipe: Recipe
    task: NamedTask
    batch: int | None
    checkpoint: Checkpointing


def _together(screen: Screen, job: _Job, opened: Network, data: Data, named: str) -> None:
    from tailorbird.flow.train import train as run

    with screen.training("Training all subnets") as bar:
        network, document = run(
            job.workspace,
            opened,
            data,
            job.recipe,
            task=job.task,
            named=named,
            batch=job.batch,
            checkpoint=job.checkpoint,
            on_progress=bar.update,
        )
        bar.cached = network.result.hit
    result = TrainResult(str(network.result.folder), network.result.hit, network.name, document)
    table = Table(
        f"{network.name}: {document.steps} steps in {document.seconds:.1f} s",
        ("network", "before", "after"),
        (
            ("full", share_words(document.full_before), share_words(document.full_after)),
            ("smallest", share_words(document.smallest_before), share_words(document.smallest_after)),
            ("random", "-", share_words(document.random_after)),
        ),
    )
    notes = [f"{count_words(round(document.rate))} {document.unit}/s; ended by {document.stopped_by}"]
    if document.resumed_at:
        notes.append(f"went on from step {document.resumed_at}")
    if document.backed_off:
        notes.append(f"learning rate halved {document.backed_off} times to protect the full network")
    if document.update_kept < 1:
        notes.append(f"kept {document.update_kept:.0%} of the update to protect the full network")
    screen.show(result, [table], [*notes, f"artifact: {result.artifact}{' (cached)' if result.cached else ''}"])
    document.check()


def _alone(screen: Screen, job: _Job, opened: Network, data: Data, subnet: str) -> None:
    from tailorbird.flow.subnet import WEIGHTS, tune_subnet

    with screen.training(f"Fine-tuning {subnet if len(subnet) < 24 else 'a subnet'}") as bar:
        network, document = tune_subnet(
            job.workspace,
            opened,
            data,
            subnet,
            job.recipe,
            task=job.task,
            batch=job.batch,
            checkpoint=job.checkpoint,
            on_progress=bar.update,
        )
        bar.cached = network.result.hit
    folder = network.result.folder
    result = SubnetResult(str(folder), network.result.hit, network.name, str(folder / WEIGHTS), document)
    table = Table(
        f"{network.name}, {document.rung or document.key}: {document.steps} steps in {document.seconds:.1f} s",
        ("network", "before", "after"),
        (
            ("subnet", share_words(document.before), share_words(document.after)),
            ("full", "-", share_words(document.full)),
        ),
    )
    notes = [f"weights: {result.weights}", f"artifact: {result.artifact}{' (cached)' if result.cached else ''}"]
    screen.show(result, [table], notes)


def _refuse(given: dict[str, Any]) -> None:
    flags = {
        "n_random": "--random",
        "sampling": "--sampling",
        "teacher": "--teacher",
        "full": "--full",
        "max_drop": "--max-drop",
    }
    unfit = [flags[name] for name, value in given.items() if value is not None]
    if unfit:
        raise UsageError(
            f"{', '.join(unfit)} and --subnet exclude each other",
            why="one subnet is trained alone, learns from the full network as it is, and never gets worse",
            fix="leave out one of them",
        )
