"""The figures as tables a person can read."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.accuracy.targets import FASTNAS
from tests.bench.equal_latency import headline
from tests.bench.outcome import Outcome

Found = dict[str, Any]


def summary(outcome: Outcome) -> str:
    """Training, predictors and frontier of each case; then the targets."""
    console = Console(width=150, color_system=None, highlight=False)
    with console.capture() as captured:
        for name, found in outcome.figures["cases"].items():
            console.print(f"\n{name}")
            _training(console, found)
            if found["predictors"]:
                console.print(_predictors(found["predictors"]))
            for number, run in enumerate(found["frontier"]):
                if run:
                    console.print(_frontier(run, number))
            for limit, tuned in found["tuned"].items():
                if tuned:
                    fit = tuned["fit"]
                    console.print(
                        f"  best at {float(limit):.0%} of the MACs, trained alone for {fit['seconds']:.0f} s: "
                        f"{tuned['accuracy']:.2%} (validation {fit['full_before']:.2%} before, {fit['full_after']:.2%})"
                    )
            if found["headline"]:
                console.print(headline.table(found["headline"]))
        console.print(
            f"\nFastNAS, published: {FASTNAS['accuracy']:.2%} at {FASTNAS['macs_share']:.0%} of the MACs, "
            f"base {FASTNAS['base']:.2%}, {FASTNAS['epochs']} epochs"
        )
        measured = outcome.figures["targets_measured"]
        for name, wording in outcome.targets.items():
            value = measured.get(name)
            verdict = "met    " if outcome.met[name] else "NOT MET"
            console.print(f"{verdict} {name}: {wording}" + (f": {value:.4g}" if value is not None else ""))
    return captured.get()


def _training(console: Console, found: Found) -> None:
    if trained := found["training"]:
        console.print(
            f"  {trained['steps']} steps, {trained['images']:,} images in {trained['seconds']:.0f} s, "
            f"{trained['torch_threads']} threads"
        )
    if full := found["full"]:
        words = ", ".join(f"{full[word]:.2%} {word}" for word in ("before", "after") if word in full)
        console.print(f"  full network {words} ({full['images']:,} unseen images)")
    if subnets := found["subnets"]:
        words = "; ".join(
            f"{word} " + ", ".join(f"{name} {value:.1%}" for name, value in subnets[word].items())
            for word in ("before", "after")
            if subnets[word]
        )
        console.print(f"  {subnets['evaluated']} of {subnets['asked']} random subnets: {words}")


def _predictors(predictors: Found) -> Table:
    shown = Table("predictor", "tau", "rho", "MAE", "bias", "regret", "within limits", "evaluations", "seconds")
    for name, found in predictors.items():
        mean = found["mean"]
        shown.add_row(
            name,
            *(_number(mean[figure], 3) for figure in ("kendall_tau", "spearman")),
            *(_number(mean[f"{figure}_points"], 2) for figure in ("mae", "bias", "regret", "limited_regret")),
            str(found["evaluations"]),
            _number(found["seconds"], 0),
        )
    return shown


def _frontier(run: Found, seed: int) -> Table:
    shown = Table(
        "limit", "MACs", "parameters", "predicted", "validation", "unseen", title=f"best subnets, seed {seed}"
    )
    for entry in run["best"]:
        names = ("limit", "macs_share", "params_share", "predicted", "validation", "accuracy")
        shown.add_row(*(f"{entry[name]:.1%}" for name in names))
    return shown


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
