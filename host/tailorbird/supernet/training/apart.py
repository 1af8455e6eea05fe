"""Apart: while subnets are trained without the full network, the network holds their weights; then it has both.

The full network is the user's, bit for bit, before and after: it teaches, and takes no part in the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from tailorbird.errors import UsageError
from tailorbird.supernet.learnt import Learnt
from tailorbird.supernet.training.ema import copied, put, tensors
from tailorbird.supernet.training.recipe import Recipe

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

WEIGHTS = "weights."


@contextmanager
def apart(net: SuperNet, recipe: Recipe) -> Iterator[dict[str, Tensor] | None]:
    """Where the full network is kept as it is: its tensors by name, while `net` holds those of the subnets.

    They are put back in the end, whatever ends it, and what subnets learnt stays beside them. None where all are
    trained together. What is changed in these tensors is put back changed.
    """
    if not keeps_full(net, recipe):
        if net.learnt is not None:
            raise UsageError(
                "the full network cannot be trained with the subnets",
                why="these have weights of their own from an earlier fit, which kept the full network as it was",
                fix="train the subnets on with full='kept', or start again from the user's model",
            )
        yield None
        return
    before, known = copied(net.weights), net.learnt
    if known is not None:
        known.put_into(net.weights)
        net.set_learnt(None)
    try:
        yield {f"{WEIGHTS}{name}": value for name, value in before.items()}
    finally:
        learnt = Learnt.of(net.weights)
        put(tensors(net.weights), before)
        if known is not None or learnt.differs(net.weights):
            net.set_learnt(learnt)


def keeps_full(net: SuperNet, recipe: Recipe) -> bool:
    """Whether a run leaves the full network alone: where the recipe says so, and there are subnets to train."""
    return recipe.keeps_full and not net.space.smallest().is_full
