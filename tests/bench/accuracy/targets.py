"""Targets of the benchmark, and published figures to stand beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bench.accuracy.networks import NETWORKS
from tests.bench.outcome import Outcome

Found = dict[str, Any]

QUICK_SECONDS = 45 * 60

#: Model Optimizer's FastNAS notebook, its own ResNet-20 on CIFAR-10, fine-tuned for 120 epochs.
FASTNAS = {"base": 0.9097, "macs_share": 0.73, "accuracy": 0.9028, "epochs": 120, "source": "NVIDIA Model Optimizer"}

# name: wording, case, figure (from the case's figures), whether it is good enough
_Target = tuple[str, str, Callable[[Found], float | None], Callable[[float], bool]]


def _ours(figure: str) -> Callable[[Found], float | None]:
    """A figure of the table, the mean over predictor seeds."""

    def value(found: Found) -> float | None:
        table = found["predictors"].get("table")
        return table and table["mean"][figure]

    return value


def _tuned(limit: float) -> Callable[[Found], float | None]:
    """Accuracy of the best subnet within a limit on MACs, trained alone at the end of the budget."""

    def value(found: Found) -> float | None:
        tuned = found["tuned"].get(str(limit))
        return tuned and tuned["accuracy"]

    return value


def _full(found: Found) -> float | None:
    return found["full"] and found["full"].get("after")


def _evaluations(found: Found) -> float | None:
    table = found["predictors"].get("table")
    return table and table["evaluations"]


_TARGETS: dict[str, _Target] = {
    "tau": (
        "ResNet-20, 6 minutes: Kendall tau of at least 0.85",
        "resnet20, 6 min",
        _ours("kendall_tau"),
        lambda x: x >= 0.85,
    ),
    "mae": (
        "ResNet-20, 6 minutes: mean absolute error of at most 2.5 points",
        "resnet20, 6 min",
        _ours("mae_points"),
        lambda x: x <= 2.5,
    ),
    "mae_60": (
        "ResNet-20, 60 minutes: mean absolute error of at most 1.5 points",
        "resnet20, 60 min",
        _ours("mae_points"),
        lambda x: x <= 1.5,
    ),
    "full": (
        "ResNet-20, 6 minutes: full network of at least 91.4 %",
        "resnet20, 6 min",
        _full,
        lambda x: x >= 0.914,
    ),
    "macs_72": (
        "ResNet-20, 6 minutes: a subnet with at most 72 % of the MACs of at least 88 %",
        "resnet20, 6 min",
        _tuned(0.72),
        lambda x: x >= 0.88,
    ),
    "macs_72_60": (
        "ResNet-20, 60 minutes: a subnet with at most 72 % of the MACs of at least 91 %",
        "resnet20, 60 min",
        _tuned(0.72),
        lambda x: x >= 0.91,
    ),
    "macs_50_60": (
        "ResNet-20, 60 minutes: a subnet with at most 50 % of the MACs of at least 89.5 %",
        "resnet20, 60 min",
        _tuned(0.5),
        lambda x: x >= 0.895,
    ),
    "evaluations_resnet20": (
        "ResNet-20: at most 50 probes and anchors",
        "resnet20, 6 min",
        _evaluations,
        lambda x: x <= NETWORKS["resnet20"].evaluations,
    ),
    "evaluations_resnet56": (
        "ResNet-56: at most 150 probes and anchors",
        "resnet56, 6 min",
        _evaluations,
        lambda x: x <= NETWORKS["resnet56"].evaluations,
    ),
}
_DURATION = "quick_duration"


def declare(outcome: Outcome) -> None:
    """Name the targets before anything is measured."""
    for name, (wording, *_) in _TARGETS.items():
        outcome.target(name, wording)
    outcome.target(_DURATION, f"the quick suite in at most {QUICK_SECONDS // 60} minutes on 2 cores")


def judge(outcome: Outcome, cases: Found, seconds: float | None) -> None:
    """Judge what is there. cases: figures by name; seconds: wall time of a whole quick suite on two threads at most."""
    measured: Found = {}
    for name, (_, case, figure, enough) in _TARGETS.items():
        value = figure(cases[case]) if case in cases else None
        measured[name] = value
        outcome.judge(name, met=value is not None and enough(value))
    measured[_DURATION] = seconds
    outcome.judge(_DURATION, met=seconds is not None and seconds <= QUICK_SECONDS)
    outcome.figures["targets_measured"] = measured
