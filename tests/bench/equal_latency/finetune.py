"""Fine-tuning one network within a time budget: what every baseline gets.

SGD with Nesterov momentum, a short warm-up and a cosine schedule over the elapsed share of the budget, gradients
clipped: the optimiser and the schedule that `net.fit` trains our subnets with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from tailorbird.compile.capture import evaluating
from tailorbird.supernet.accuracy.measure import Tally
from tailorbird.supernet.loader import read
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.schedule import factor

Batch = tuple[Tensor, Tensor]
Forward = Callable[[Tensor], Tensor]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a baseline is fine-tuned. Loss: cross entropy, or, given a teacher, in part the teacher's softened answers
    (Hinton et al. 2015, "Distilling the knowledge in a neural network": share `soft`, at this temperature).
    """

    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warm_up: float = 0.05  # share of the budget
    clip: float = 5.0
    temperature: float = 4.0
    soft: float = 0.9


@dataclass(frozen=True, slots=True)
class Tuned:
    """What fine-tuning took and did; losses of the first and the last step, None where the budget allowed no step."""

    seconds: float
    steps: int
    images: int
    first_loss: float | None
    last_loss: float | None

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Trainer:
    """What all baselines train with. batches: (images, labels), read as often as needed; recalibration: training images
    for batch_norm statistics, of which `recalibration_images` are read; clock: what budgets are counted on.
    """

    batches: Iterable[Batch]
    recalibration: Iterable[Batch]
    recalibration_images: int
    clock: Clock
    tuning: Tuning

    def tune(
        self,
        forward: Forward,
        parameters: Iterable[nn.Parameter],
        seconds: float,
        teacher: nn.Module | None = None,
    ) -> Tuned:
        """Train until `seconds` have gone by on the clock; the last step may end a little later.

        forward: scores (N, classes) of images (N, ...), in train mode.
        """
        tuning = self.tuning
        trained = [p for p in parameters if p.requires_grad]
        optimiser = torch.optim.SGD(
            trained, lr=0.0, momentum=tuning.momentum, weight_decay=tuning.weight_decay, nesterov=True
        )
        batches = _endless(self.batches)
        losses: list[float] = []
        images = 0
        begin = self.clock()
        while (elapsed := self.clock() - begin) < seconds:
            for group in optimiser.param_groups:
                group["lr"] = tuning.lr * factor(elapsed / seconds, tuning.warm_up)
            inputs, labels = next(batches)
            loss = _loss(forward(inputs), labels, inputs, tuning, teacher)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(trained, tuning.clip)
            optimiser.step()
            losses.append(float(loss.detach()))
            images += len(labels)
        return Tuned(elapsed, len(losses), images, losses[0] if losses else None, losses[-1] if losses else None)

    def settle(self, module: nn.Module) -> None:
        """Give batch_norm layers the mean statistics of some images in place of running averages, as our subnets have
        them, and leave the network in eval mode.
        """
        batches = read(self.recalibration, torch.device("cpu"), self.recalibration_images)
        update_bn((batch.inputs.args[0] for batch in batches), module)
        module.eval()


def _loss(scores: Tensor, labels: Tensor, inputs: Tensor, tuning: Tuning, teacher: nn.Module | None) -> Tensor:
    hard = functional.cross_entropy(scores, labels)
    if teacher is None:
        return hard
    with torch.no_grad():
        wanted = teacher(inputs)
    heat = tuning.temperature
    soft = functional.kl_div(
        (scores / heat).log_softmax(-1), (wanted / heat).log_softmax(-1), reduction="batchmean", log_target=True
    )
    return (1 - tuning.soft) * hard + tuning.soft * heat**2 * soft


def _endless(loader: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        before = None
        for before in loader:
            yield before
        if before is None:
            raise ValueError("the training loader gave no batch, or cannot be read twice")


def score(module: nn.Module, loader: Iterable[Batch]) -> float:
    """Top-1 accuracy of a network, a fraction."""
    task, tally = Task.of("classification"), Tally()
    with evaluating(module), torch.no_grad():
        for batch in read(loader, torch.device("cpu")):
            tally.add(task, module(*batch.inputs.args), batch)
    return tally.mean()
