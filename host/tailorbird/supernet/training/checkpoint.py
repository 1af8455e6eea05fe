"""Checkpoint: a training run in one file, which is a saved SuperNet as well.

`SuperNet.load` reads from it the network as the run would leave it, `fit(..., resume=True)` everything else. It is
written beside, synced and renamed: whatever happens, the file holds the last checkpoint that was written in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tailorbird.errors import ModelError, UsageError
from tailorbird.supernet.checkpoint import contents
from tailorbird.supernet.durable import read_tensors, remove_stale, write_tensors
from tailorbird.supernet.task import Task
from tailorbird.supernet.training.apart import WEIGHTS
from tailorbird.supernet.training.ema import tensors
from tailorbird.supernet.training.failure import CheckpointError
from tailorbird.supernet.training.recipe import Recipe

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_FORMAT = 2
_ENTRY = "training"
#: What may be another in the run that goes on: how long it is.
_LENGTH = ("epochs", "steps", "budget_s")


class Checkpoint:
    """The file of a run. Raises: UsageError for what is no path."""

    def __init__(self, path: str | Path) -> None:
        if not isinstance(path, str | Path):
            raise UsageError(f"the checkpoint is {path!r}", fix="pass the path of a file")
        self.path = Path(path)

    def check(self, *, resume: bool) -> None:
        """Make sure that a run may use the file: make its folder, and remove what a killed run left half written.

        Raises: UsageError for a folder, for a file that is there already unless the run is to go on from it, and where
        no file can be.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.stat()
            remove_stale(self.path)
        except FileNotFoundError:
            pass  # as it should be for a new run
        except (OSError, ValueError) as error:
            raise UsageError(
                f"there can be no checkpoint at {self.path}",
                why=getattr(error, "strerror", None) or str(error),
                fix="pass the path of a file in a folder that you may write to",
            ) from error
        if self.path.is_dir():
            raise UsageError(f"the checkpoint {self.path} is a folder", fix="pass the path of a file in it")
        if self.path.exists() and not resume:
            raise UsageError(
                f"there is a checkpoint at {self.path} already",
                why="a new run would overwrite it",
                fix="go on from it with resume=True, or pass another path",
            )

    def write(self, net: SuperNet, task: Task, state: Mapping[str, Any], final: Mapping[str, Tensor] | None) -> None:
        """Replace the file. state: of the run; final: the weights that SuperNet.load is to find, by default those that
        the run would leave if it ended here.

        Raises: CheckpointError when it cannot be written; the file is then the one before.
        """
        saved = contents(net) | {"statistics": {}}
        trained = final or usable(state)
        entries = [("state", WEIGHTS, trained), ("transforms", "transforms.", trained)]
        if state["kept"]:
            named = net.weights.named_parameters(remove_duplicate=False)
            saved["learnt"] = {name: trained[f"{WEIGHTS}{name}"] for name, _ in named}
            entries[0] = ("state", WEIGHTS, state["start"])
        for entry, prefix, values in entries:
            own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            saved[entry] = {name: own.get(name, value) for name, value in saved[entry].items()}
        saved[_ENTRY] = {"format": _FORMAT, "identity": _identity(net, task), "state": dict(state)}
        try:
            write_tensors(saved, self.path)
        except OSError as error:
            raise CheckpointError.not_written(self.path, error) from error

    def read(self, net: SuperNet, task: Task, recipe: Recipe) -> dict[str, Any]:
        """The state of the run; the network takes over the order of channels that it was trained with.

        Raises: ModelError for a file that is damaged, or of another network; UsageError for another kind of run.
        """
        try:
            saved = read_tensors(self.path)
        except Exception as error:
            raise ModelError(
                f"the checkpoint {self.path} cannot be read",
                why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
                fix="it is damaged, or no checkpoint: pass another path, or move it away to start anew",
            ) from error
        found = saved.get(_ENTRY) if isinstance(saved, dict) else None
        if not isinstance(found, dict) or not {"format", "identity", "state"} <= found.keys():
            raise ModelError(
                f"{self.path} is no checkpoint of a training run",
                why="it holds no training state, as files of SuperNet.save do not",
                fix="start anew from it: SuperNet.load(path, model, example), then fit with another checkpoint path",
            )
        if found["format"] != _FORMAT:
            raise ModelError(
                f"the checkpoint {self.path} has format {found['format']}, this version reads {_FORMAT}",
                fix="go on with the version of tailorbird that wrote it",
            )
        self._compare(found["identity"], _identity(net, task))
        self._compare_recipes(found["state"]["recipe"], recipe)
        net.set_orders(saved["orders"])
        return dict(found["state"])

    def _compare(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in ("tensors", "trained", "dimensions"):
            if then[name] != now[name]:
                raise ModelError(
                    f"the checkpoint {self.path} belongs to another network",
                    why=f"{name}: {_difference(then[name], now[name])}",
                    fix="compile the model of that run with the same options, or pass another path",
                )
        if then["task"] != now["task"]:
            raise UsageError(
                f"the checkpoint {self.path} is of a run for another task",
                why=f"task: {_difference(then['task'], now['task'])}",
                fix="pass the task, loss, metric and distance of that run, or another path",
            )

    def _compare_recipes(self, then: Mapping[str, Any], recipe: Recipe) -> None:
        was, now = ({n: v for n, v in values.items() if n not in _LENGTH} for values in (then, recipe.to_json()))
        if was != now:
            raise UsageError(
                f"the checkpoint {self.path} is of a run with other settings",
                why=_difference(was, now),
                fix="pass the settings of that run (only epochs, steps and budget may change), "
                "or start anew from its weights: SuperNet.load(path, model, example)",
            )


def usable(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The weights that a run in this state would leave, before its guard looks at them: averages where there are."""
    averages, updates = state["average"] or ({}, 0)
    return averages if updates else state["weights"]


def _identity(net: SuperNet, task: Task) -> dict[str, Any]:
    """What a checkpoint and the run that goes on from it must have in common."""
    parts = (task.loss, task.metric, task.distance)
    return {
        "tensors": {
            name: f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
            for name, value in tensors(net).items()
        },
        "trained": {name: parameter.requires_grad for name, parameter in net.named_parameters()},
        "dimensions": {d.name: [d.kind, d.size, *d.choices] for d in net.space.dimensions},
        "task": {"name": task.name} | dict(zip(("loss", "metric", "distance"), map(_name, parts), strict=True)),
    }


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first few differences, in words."""
    names = [name for name in (*then, *(n for n in now if n not in then)) if then.get(name) != now.get(name)]
    words = [f"{n} is {now.get(n, 'absent')}, in the checkpoint {then.get(n, 'absent')}" for n in names[:3]]
    return "; ".join(words) + (f"; and {len(names) - 3} more" if len(names) > 3 else "")
