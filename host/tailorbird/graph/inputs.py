"""Inputs of a network: positional and keyword arguments, nested as the user nests them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tailorbird.errors import InputShapeError


@dataclass(frozen=True)
class Inputs:
    """What a network is called with: `model(*args, **kwargs)`. Leaves are tensors, None or plain constants."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, example: Inputs | tuple[Any, ...]) -> Inputs:
        """Positional inputs as Inputs."""
        return example if isinstance(example, Inputs) else cls(example)

    @property
    def leaves(self) -> list[Any]:
        """All leaves, in the order of the placeholders of a captured graph."""
        return pytree.tree_leaves((self.args, dict(self.kwargs)))

    @property
    def structure(self) -> pytree.TreeSpec:
        """How the leaves are nested."""
        return pytree.tree_structure((self.args, dict(self.kwargs)))

    @property
    def tensors(self) -> list[Tensor]:
        """The leaves that are tensors."""
        return [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    @property
    def batch(self) -> int | None:
        """Size of the first axis of the first tensor; None without one."""
        first = next(iter(self.tensors), None)
        return None if first is None or first.ndim == 0 else first.shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same inputs with every tensor changed."""
        args, kwargs = pytree.tree_map_only(Tensor, change, (self.args, dict(self.kwargs)))
        return Inputs(args, kwargs)

    def map_batched(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        """The same inputs with every tensor changed whose first axis is the batch."""
        batch = self.batch
        return self.map(lambda x: change(x) if x.ndim and x.shape[0] == batch else x)

    def call(self, model: nn.Module) -> Any:
        """The network's output for copies of these inputs."""
        own = self.map(Tensor.clone)
        return model(*own.args, **own.kwargs)


def bind(model: nn.Module, example: Inputs, given: Inputs) -> Inputs:
    """Lay out `given` as the example was: by position or by keyword, absent optional inputs filled in as None.

    Raises: InputShapeError when the model's forward has no such inputs, or not all of them.
    """
    found = _laid_out(model, example, given)
    if found.structure != example.structure:
        raise InputShapeError(
            f"{type(model).__name__} is called with inputs of another structure than it was compiled for",
            why=f"the example is nested as {example.structure}, the call as {found.structure}",
            fix="nest the inputs as in the example, or compile with these inputs",
        )
    return found


def _laid_out(model: nn.Module, example: Inputs, given: Inputs) -> Inputs:
    if len(given.args) == len(example.args) and given.kwargs.keys() == example.kwargs.keys():
        return Inputs(given.args, {name: given.kwargs[name] for name in example.kwargs})
    layout = inspect.signature(model.forward)
    try:
        wanted = layout.bind(*example.args, **example.kwargs).arguments
        found = layout.bind_partial(*given.args, **given.kwargs).arguments
    except TypeError as error:
        raise InputShapeError(
            f"{type(model).__name__} does not take these inputs",
            why=str(error),
            fix="call the network as you would call the model",
        ) from error
    extra = [name for name in found if name not in wanted and found[name] is not None]
    missing = [name for name in wanted if name not in found and wanted[name] is not None]
    if extra or missing or any(_is_star(layout, name) for name in (*wanted, *found)):
        raise InputShapeError(
            f"{type(model).__name__} is called with other inputs than it was compiled for",
            why=f"the example has {_listed(wanted)}, the call {_listed(found)}",
            fix="pass the inputs of the example, or compile with these inputs",
        )
    by_position = tuple(found.get(name) for name in list(wanted)[: len(example.args)])
    return Inputs(by_position, {name: found.get(name) for name in example.kwargs})


def _is_star(layout: inspect.Signature, name: str) -> bool:
    return layout.parameters[name].kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _listed(arguments: Mapping[str, Any]) -> str:
    return ", ".join(name for name, value in arguments.items() if value is not None) or "none"
