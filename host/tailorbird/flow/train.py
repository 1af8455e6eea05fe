"""Fine-tune all subnets of a SuperNet together, within a time budget."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from tailorbird.document import dump_document
from tailorbird.errors import GateError
from tailorbird.flow.artifact import read_document
from tailorbird.flow.data import Batches, Splits
from tailorbird.flow.network import Network
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.supernet import SuperNet

TRAINING_SCHEMA = "tailorbird.training/1"
_STAGE = "train"
#: The full network may lose this much validation accuracy (a fraction) before the gate fails.
MAX_DROP = 0.005


@dataclass(frozen=True, slots=True)
class TrainingDocument:
    """training.json: what the fine-tune did. Accuracies are fractions on the validation split."""

    steps: int
    images: int
    seconds: float
    first_loss: float
    last_loss: float
    full_before: float
    full_after: float
    smallest_after: float
    update_kept: float
    schema: str = TRAINING_SCHEMA

    def check(self) -> None:
        """The full network must have stayed what it was.

        Raises:
            GateError: it lost more than MAX_DROP.
        """
        drop = self.full_before - self.full_after
        if drop > MAX_DROP + 1e-9:
            raise GateError(
                f"the full network lost {100 * drop:.1f} points in the fine-tune",
                why=f"{100 * self.full_before:.1f} % before, {100 * self.full_after:.1f} % after; "
                f"{100 * MAX_DROP:.1f} points are allowed",
                fix="give the fine-tune a larger --budget or a smaller --lr",
                reason="FULL_NET_LOST_ACCURACY",
            )


def train(
    workspace: Workspace,
    network: Network,
    splits: Splits,
    *,
    data: str | None = None,
    budget_s: float,
    steps: int | None = None,
    lr: float = 0.02,
    batch: int = 64,
    note: Note = silent,
) -> tuple[Network, TrainingDocument]:
    """Sandwich training with in-place distillation for budget_s seconds, or `steps` where those are done sooner.

    The given network is trained in place.

    data: how the data is called, so that later stages find it again.

    Raises:
        InputShapeError: the data does not fit the network.
    """
    splits = splits.fitted(network.document.inputs)
    seed = workspace.settings.seed
    inputs = {
        "supernet": network.result.key,
        "data": splits.sha256(),
        "budget_s": budget_s,
        "steps": steps,
        "lr": lr,
        "batch": batch,
        "seed": seed,
    }
    network = network.trained_on(data)

    def build(folder: Path) -> None:
        document = _fit(network.net, splits, budget_s, steps, lr, batch, seed, note)
        network.write(folder)
        (folder / "training.json").write_text(dump_document(document, indent=1), encoding="utf-8")

    result = workspace.cache.run(_STAGE, inputs, build)
    if result.hit:
        trained = SuperNet.load(result.folder / "supernet.pt", network.net.weights, *network.inputs)
        network = replace(network, net=trained)
    document = read_document(
        result.folder, "training.json", TrainingDocument, TRAINING_SCHEMA, made_by="tailorbird train"
    )
    return replace(network, result=result), document


def _fit(
    net: SuperNet,
    splits: Splits,
    budget_s: float,
    steps: int | None,
    lr: float,
    batch: int,
    seed: int,
    note: Note,
) -> TrainingDocument:
    from tailorbird.supernet.accuracy import accuracy

    validation = Batches(splits.validation, 200)
    loader = Batches(splits.train, batch, shuffle_seed=seed, augment=splits.augment)
    # The schedule follows whatever ends first, steps or the clock.
    done = net.fit(
        loader,
        steps=steps,
        lr=lr,
        seed=seed,
        budget=budget_s,
        validate=validation,
        max_drop=MAX_DROP,
        on_progress=lambda now: note(f"step {now.step}, loss {now.loss or math.nan:.3f}"),
    )
    smallest = net.space.smallest()
    net.recalibrate(smallest, Batches(splits.train, 200))
    return TrainingDocument(
        steps=done.steps,
        images=done.images,
        seconds=done.seconds,
        first_loss=done.first_loss,
        last_loss=done.last_loss,
        full_before=done.full_before or 0.0,
        full_after=done.full_after or 0.0,
        smallest_after=accuracy(net, smallest, validation),
        update_kept=done.update_kept,
    )
