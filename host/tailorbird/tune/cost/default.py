"""The cost model that tuning uses unless told otherwise; `tests.bench.cost` says why."""

from __future__ import annotations

from pathlib import Path

from tailorbird.compile.tvm.target import compiler
from tailorbird.tune.cost.adapt import adaptation
from tailorbird.tune.cost.controller import Controller, Never, ThreeSigns
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.cost.learned import LearnedCosts
from tailorbird.tune.cost.saved import SHIPPED, load
from tailorbird.types.schedule import DeviceClass

MODE = "fine-tune"


def default_costs(
    boards: DeviceClass, *, mode: str = MODE, pretrained: Path = SHIPPED, controlled: bool = True, seed: int = 0
) -> LearnedCosts:
    """A cost model for one tuning run on these boards. controlled: whether it may end a kernel's search.

    The shipped network learnt from one release of TVM; under another a network from scratch takes its place.
    Raises UsageError for an unknown mode, MissingFileError and CostModelError for a file that cannot be used.
    """
    controller: type[Controller] = ThreeSigns if controlled else Never
    if mode == "scratch":
        return LearnedCosts(boards, adaptation(mode, seed=seed), controller)
    try:
        network = load(pretrained, compiler=compiler()).network
    except CostModelError as error:
        if pretrained != SHIPPED or error.reason != "COST_MODEL_COMPILER":
            raise
        return LearnedCosts(boards, adaptation("scratch", seed=seed), controller)
    return LearnedCosts(boards, adaptation(mode, network, seed=seed), controller)
