"""Teacher: the full network as it was when training began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tailorbird.graph import Inputs, Mode
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


class FrozenTeacher:
    """The full network in eval mode with weights that stay as they are, whatever becomes of the network's own.

    It takes inputs of every size that the SuperNet takes: `extract` makes networks for one. weights: by their names in
    the user's module.
    """

    def __init__(self, net: SuperNet, weights: Mapping[str, Tensor]) -> None:
        self._net, self._weights = net, weights

    def prepare(self, leaves: Sequence[Any]) -> None:
        """Make what runs it at this size of its inputs. Raises: InputShapeError for inputs that do not fit."""
        self._net.at(leaves, Config()).plan(Config(), Mode.EVAL)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Its answers in the user's output structure. Raises: InputShapeError for inputs that do not fit."""
        leaves = self._net.bound(Inputs(args, kwargs)).leaves
        return self._net.at(leaves, Config()).run(Config(), Mode.EVAL, leaves, self._weights)
