"""How long each part of the demo may take, and what the burner does."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tailorbird.flow.search import SearchOptions


@dataclass(frozen=True, slots=True)
class BurstPlan:
    """The burner is on from `start` to `end` (shares of the serving phase) with this many processes on each core."""

    start: float
    end: float
    per_core: int


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """The demo's parts. Training is planned in steps, not seconds: a busy machine takes longer for the same network."""

    base_steps: int = 90
    tuning_steps: int = 110
    tuning_batch: int = 20
    tuning_lr: float = 0.06
    tuning_limit_s: float = 600.0
    tvm_s: float = 7.0
    serve_s: float = 18.0
    rate_hz: float = 20.0
    search: SearchOptions = field(default_factory=SearchOptions)
    bursts: tuple[BurstPlan, ...] = (BurstPlan(0.2, 0.45, 2), BurstPlan(0.6, 0.85, 3))


def plan_for(model: str, *, quick: bool = False) -> DemoPlan:
    """The plan for a model; quick: everything really runs, on the smallest budgets that still give a ladder."""
    search = SearchOptions(samples=4, held_out=4, generations=16, shortlist=12) if quick else SearchOptions()
    fine_tune: dict[str, float | int] = {}
    if model == "resnet20-cifar10":  # pretrained to the last tenth of a point: large steps would undo that
        fine_tune = {"tuning_batch": 64, "tuning_lr": 0.01, "tuning_steps": 300}
        search = replace(search, most_loss=0.65)  # ten classes of photographs take more training than this
    budgets: dict[str, float] = {"tvm_s": 2.0, "serve_s": 5.0} if quick else {}
    return DemoPlan(search=search, **fine_tune, **budgets)  # type: ignore[arg-type]
