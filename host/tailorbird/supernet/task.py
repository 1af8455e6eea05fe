"""Task: what a network is trained for. A loss, a figure of merit, and how far two answers are apart.

    classification   scores (N, classes) or (N, ..., classes) with labels (N, ...); label -100 is left out
    segmentation     scores (N, classes, ...) with labels (N, ...), as torch's own losses have them
    multilabel       scores (N, ..., classes) with labels of the same shape, 0 or 1 each
    regression       any values, with targets of the same shape; the figure of merit is the share of variance explained

Anything else, such as a detection head, is a Task with the user's own three callables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.nn import functional

from tailorbird.errors import UsageError
from tailorbird.supernet.loader import logits

Loss = Callable[[Any, Any], Tensor]
#: Mean over a batch, which is weighted by its samples; or (sum, count), whose totals are divided.
Metric = Callable[[Any, Any], "float | Tensor | tuple[float, float]"]
Distance = Callable[[Any, Any], Tensor]

_IGNORED = -100  # torch's own mark for labels that do not count


@dataclass(frozen=True, slots=True)
class Task:
    """Three functions of a network's output, in the user's output structure.

    loss(output, target): a scalar to minimise, the mean over samples. metric(output, target): larger is better, 1 is
    perfect. distance(output, wanted): a scalar, the mean divergence of an output from another network's, 0 where they
    agree; distillation minimises it and accuracy tables sum it up.
    """

    name: str
    loss: Loss
    metric: Metric
    distance: Distance

    @classmethod
    def of(
        cls,
        task: str | Task = "classification",
        loss: Loss | None = None,
        metric: Metric | None = None,
        distance: Distance | None = None,
    ) -> Task:
        """A task by name, with the user's own functions in place of some of its own. Raises: UsageError."""
        if isinstance(task, str):
            if task not in _TASKS:
                raise UsageError(
                    f"no task is called {task!r}", fix=f"pass one of {', '.join(_TASKS)}, or a Task of your own"
                )
            task = _TASKS[task]
        if not isinstance(task, Task):
            raise UsageError(f"the task is a {type(task).__name__}", fix="pass a task by name, or a Task of your own")
        own = {"loss": loss, "metric": metric, "distance": distance}
        for name, function in own.items():
            if function is not None and not callable(function):
                raise UsageError(f"the {name} is a {type(function).__name__}", fix="pass a function")
        return replace(task, **{name: function for name, function in own.items() if function is not None})  # type: ignore[arg-type]

    @property
    def is_ours(self) -> bool:
        """Whether all three functions are those of a task by name."""
        return self == _TASKS.get(self.name)


def divergence(scores: Tensor, wanted: Tensor) -> Tensor:
    """Mean KL divergence of softmax(scores) from softmax(wanted), both (rows, classes), in nats."""
    return functional.kl_div(scores.log_softmax(-1), wanted.log_softmax(-1), reduction="batchmean", log_target=True)


def _rows(scores: Tensor, axis: int) -> Tensor:
    """(rows, classes) in single precision."""
    moved = scores.movedim(axis, -1)
    return moved.reshape(-1, moved.shape[-1]).float()


def _classes(axis: int) -> tuple[Loss, Metric, Distance]:
    def fitted(output: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits(output)
        rows = _rows(scores, axis)
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.numel() != len(rows):
            raise UsageError(
                f"labels {_described(labels)} do not fit scores {tuple(scores.shape)}",
                why="one class number is needed for each row of scores",
                fix="yield integer labels, or pass another `task`: segmentation has its classes on axis 1",
            )
        wanted = labels.reshape(-1).long()
        counted = wanted[wanted != _IGNORED]
        least, most = (int(x) for x in counted.aminmax()) if len(counted) else (0, 0)
        if least < 0 or most >= rows.shape[1]:
            raise UsageError(
                f"label {most if most >= rows.shape[1] else least} is out of range: "
                f"the network has {rows.shape[1]} classes",
                why=f"labels go from 0 to {rows.shape[1] - 1}, those of this batch from {least} to {most}",
                fix="give the network one output for each class, number the classes from 0, "
                f"and mark what does not count with {_IGNORED}",
            )
        return rows, wanted

    def loss(output: Any, labels: Tensor) -> Tensor:
        return functional.cross_entropy(*fitted(output, labels), ignore_index=_IGNORED)

    def metric(output: Any, labels: Tensor) -> tuple[float, float]:
        rows, wanted = fitted(output, labels)
        counted = wanted != _IGNORED
        return float((rows.argmax(-1) == wanted)[counted].sum()), float(counted.sum())

    def distance(output: Any, wanted: Any) -> Tensor:
        return divergence(_rows(logits(output), axis), _rows(logits(wanted), axis))

    return loss, metric, distance


def _alike(output: Any, target: Any) -> tuple[Tensor, Tensor]:
    scores = logits(output)
    if not isinstance(target, Tensor) or target.numel() != scores.numel():
        raise UsageError(
            f"targets {_described(target)} do not fit outputs {tuple(scores.shape)}",
            why="one value is needed for each output",
        )
    return scores.float(), target.reshape(scores.shape).float()


def _multilabel_metric(output: Any, target: Any) -> tuple[float, float]:
    scores, wanted = _alike(output, target)
    return float(((scores > 0) == (wanted > 0.5)).sum()), float(wanted.numel())


def _multilabel_distance(output: Any, wanted: Any) -> Tensor:
    scores, goal = logits(output).float(), logits(wanted).float()
    chance = goal.sigmoid()
    gap = chance * (functional.logsigmoid(goal) - functional.logsigmoid(scores))
    gap = gap + (1 - chance) * (functional.logsigmoid(-goal) - functional.logsigmoid(-scores))
    return gap.sum() / len(scores)


def _explained(output: Any, target: Any) -> tuple[float, float]:
    """Variance explained, and variance: summed over batches, so that a small last one counts for what it is."""
    values, wanted = _alike(output, target)
    spread = float((wanted - wanted.mean()).square().sum())
    return spread - float((values - wanted).square().sum()), spread


def _described(value: Any) -> str:
    return f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else f"({type(value).__name__})"


_TASKS: dict[str, Task] = {
    "classification": Task("classification", *_classes(-1)),
    "segmentation": Task("segmentation", *_classes(1)),
    "multilabel": Task(
        "multilabel",
        lambda output, target: functional.binary_cross_entropy_with_logits(*_alike(output, target)),
        _multilabel_metric,
        _multilabel_distance,
    ),
    "regression": Task(
        "regression",
        lambda output, target: functional.mse_loss(*_alike(output, target)),
        _explained,
        lambda output, wanted: functional.mse_loss(*_alike(output, logits(wanted))),
    ),
}
