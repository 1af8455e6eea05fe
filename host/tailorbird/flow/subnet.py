"""Fine-tune one subnet of a SuperNet alone, and put it in its place.

subnet.json          which subnet, what the training did
subnet.safetensors   its own weights, under the user's names
network files        the network, which now answers with these weights for this configuration
search.json, ladder.json   where the network came from a search: the ladder with the rung's new accuracy

Later stages take the folder for that of a search. In Python `load_subnet(folder)` returns the subnet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch.fx import GraphModule

from tailorbird.document import dump_document
from tailorbird.errors import MissingFileError, UsageError
from tailorbird.flow.artifact import read_document
from tailorbird.flow.checkpoint import Checkpoint, Checkpointing
from tailorbird.flow.data import Data
from tailorbird.flow.network import Network, open_network
from tailorbird.flow.search import LADDER_SCHEMA, LadderDocument
from tailorbird.flow.task import NamedTask
from tailorbird.flow.train import CLASSIFICATION, Speed, fit_arguments, known
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet import SuperNet, accuracy
from tailorbird.supernet.training import SOFT, OnProgress, Recipe
from tailorbird.types import Config, Ladder

SUBNET_SCHEMA = "tailorbird.subnet/1"
WEIGHTS = "subnet.safetensors"
_STAGE = "subnet"


@dataclass(frozen=True, slots=True)
class SubnetDocument:
    """subnet.json. config: as Config.to_json gives it; rung: its name in the ladder, "" without one.

    before, after, full: accuracy of the subnet and of the full network on the validation split, fractions, or the
    task's metric. Others: see TrainingDocument.
    """

    config: str
    key: str
    rung: str
    task: str
    before: float
    after: float
    full: float
    macs: int
    params: int
    steps: int
    images: int
    seconds: float
    rate: float
    unit: str
    stopped_by: str
    resumed_at: int
    first_loss: float | None
    last_loss: float | None
    recipe: Recipe
    schema: str = SUBNET_SCHEMA


def tune_subnet(
    workspace: Workspace,
    network: Network,
    data: Data,
    subnet: str,
    recipe: Recipe,
    *,
    task: NamedTask = CLASSIFICATION,
    batch: int | None = None,
    checkpoint: Checkpointing | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Network, SubnetDocument]:
    """Train a subnet on the labels and the full network's answers; it never ends worse than it began.

    subnet: the name of a rung where the network comes from a search, a configuration as JSON, or a file with one.

    Raises:
        UsageError: there is no such subnet, or it is the full network.
        InterruptedRunError: the run was interrupted; its checkpoint is written.
    """
    data = data.fitted(network.document.inputs)
    loader = data.training(batch, recipe.seed)
    ladder = _ladder(network)
    config, rung = find_subnet(network.net, ladder, subnet)
    recipe = replace(recipe, teacher="given", soft=SOFT, keep="best", max_drop=1.0, n_random=0)
    inputs = {
        "network": network.result.key,
        "config": config.to_json(),
        "data": data.sha256(),
        "task": task.identity,
        "batch": batch,
        "recipe": recipe.to_json(),
    }
    run = Checkpoint.of(workspace, _STAGE, inputs, checkpoint)

    def build(folder: Path) -> None:
        from safetensors.torch import save_file

        net, speed = network.net, Speed(on_progress)
        if not net.statistics(config):
            net.recalibrate(config, data.calibration())
        arguments = fit_arguments(recipe)
        del arguments["teacher"]  # fine_tune's own: the full network
        tuned = net.fine_tune(
            config,
            loader,
            task=task.task,
            validate=data.held_out(),
            on_progress=speed,
            **run.arguments(),
            **arguments,
        )
        done = tuned.fit
        run.interrupted(done)
        net.adopt(config, tuned.module)
        document = SubnetDocument(
            config=config.to_json(),
            key=config.key,
            rung=rung,
            task=task.task.name,
            before=tuned.before or 0.0,
            after=tuned.after or 0.0,
            full=accuracy(net, Config(), data.held_out(), task=task.task),
            macs=net.macs(config),
            params=net.params(config),
            steps=done.steps,
            images=done.images,
            seconds=done.seconds,
            rate=speed.rate,
            unit=speed.unit,
            stopped_by=done.stopped_by,
            resumed_at=done.resumed_at,
            first_loss=known(done.first_loss),
            last_loss=known(done.last_loss),
            recipe=recipe,
        )
        network.write(folder)
        save_file({name: t.contiguous().clone() for name, t in tuned.module.state_dict().items()}, folder / WEIGHTS)
        (folder / "subnet.json").write_text(dump_document(document, indent=1), encoding="utf-8")
        if ladder is not None:
            _write_ladder(network.result.folder, folder, ladder, rung, document.after)

    result = run.built(workspace, _STAGE, inputs, build)
    document = read_document(result.folder, "subnet.json", SubnetDocument, SUBNET_SCHEMA, made_by="tailorbird train")
    return network.after(result), document


def load_subnet(folder: Path) -> GraphModule:
    """The fine-tuned subnet of an artifact, in eval mode.

    Raises:
        MissingFileError: `train --subnet` did not make this folder.
    """
    document = read_document(folder, "subnet.json", SubnetDocument, SUBNET_SCHEMA, made_by="tailorbird train --subnet")
    return open_network(folder).net.extract(Config.from_json(document.config))


def find_subnet(net: SuperNet, ladder: Ladder | None, text: str) -> tuple[Config, str]:
    """A configuration, and the name of its rung, from what the user wrote.

    Raises:
        UsageError: it is none of a rung, a configuration and a file with one.
    """
    rungs = {rung.name: rung.config for rung in ladder.rungs} if ladder is not None else {}
    config = rungs.get(text)
    if config is None:
        config = _configuration(text, tuple(rungs))
    config = net.space.canonical(config)
    if config.is_full:
        raise UsageError(
            f"{text} is the full network",
            why="it is not fine-tuned alone: it is the user's own model",
            fix="name a smaller subnet",
        )
    return config, next((name for name, of_rung in rungs.items() if net.space.canonical(of_rung) == config), "")


def _configuration(text: str, rungs: tuple[str, ...]) -> Config:
    words = text
    if not text.lstrip().startswith("{"):
        try:
            words = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"there is no subnet {text!r}",
                why=f"the rungs are {', '.join(rungs)}" if rungs else "this artifact has no ladder, and no such file",
                fix="name a rung of a ladder that `search` made, or give a configuration as JSON or a file with one",
                reason="SUBNET_UNKNOWN",
            ) from None
    try:
        return Config.from_json(words)
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{text[:60]!r} is no configuration",
            why=str(error),
            fix='write {"sizes": {"layer1.0.conv1": 16}, "skipped": ["layer2.1"]}, or a file that holds this',
        ) from error


def _ladder(network: Network) -> Ladder | None:
    try:
        made_by = "tailorbird search"
        return read_document(
            network.result.folder, "ladder.json", LadderDocument, LADDER_SCHEMA, made_by=made_by
        ).ladder
    except MissingFileError:
        return None


def _write_ladder(source: Path, folder: Path, ladder: Ladder, rung: str, accuracy: float) -> None:
    """The ladder with a rung's new accuracy, and the search that it came from."""
    rungs = tuple(replace(r, accuracy=accuracy) if r.name == rung else r for r in ladder.rungs)
    text = dump_document(LadderDocument(replace(ladder, rungs=rungs)), indent=1)
    (folder / "ladder.json").write_text(text, encoding="utf-8")
    (folder / "search.json").write_bytes((source / "search.json").read_bytes())
