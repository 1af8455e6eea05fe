"""Run the benchmark; the package's docstring says what it measures.

Stages: original (the network before training), train, evaluate (random subnets), predict (every predictor), frontier
(a search with the table; the end of a long budget goes into its best subnets), headline (equal latency, on the local
agent).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from tailorbird.cache import code_version
from tailorbird.supernet import SuperNet
from tailorbird.types import Config
from tests.bench.accuracy import (
    earlier,
    figures,
    frontier,
    latency_stage,
    original,
    prediction,
    targets,
    training,
    tuning,
)
from tests.bench.accuracy.clock import WORDING
from tests.bench.accuracy.evaluation import judge
from tests.bench.accuracy.networks import NETWORKS
from tests.bench.accuracy.settings import DIGITS, FULL, QUICK, Budget, Case, Settings
from tests.bench.accuracy.subnets import drawn
from tests.bench.accuracy.summary import summary
from tests.bench.accuracy.work import Work
from tests.bench.equal_latency import headline
from tests.bench.outcome import Outcome, machine, publish

SCHEMA = "tailorbird.bench.accuracy/1"
STAGES = ("original", "train", "evaluate", "predict", "frontier", "headline")
_REPORT = "report"  # instead of stages: tell what is known
_STAGES = f"of {', '.join(STAGES)} (default: all in full, all but headline in quick), or {_REPORT}: tell what is known"
_QUICK_THREADS = 2

_IMAGES = (
    "The published weights have seen every training image; all held-out images are from the test part, in an order "
    "drawn once. Evaluation images, and those that guard training and that predictors see, are disjoint."
)


def main() -> None:
    """Run the stages that are asked for and print the object with all that is known."""
    begin = time.monotonic()
    options = _arguments()
    torch.set_num_threads(options.threads)
    work = Work(options.work)
    asked = [case for net in options.nets for case in _cases(options, net, work)]
    if options.stages != [_REPORT]:
        for case in asked:
            _run(case, options)
    outcome = Outcome(SCHEMA, options.suite)
    targets.declare(outcome)
    headline.declare(outcome)
    _report(outcome, options, asked, work, begin)
    if options.summary:
        sys.stderr.write(summary(outcome))
    publish(outcome, options.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.accuracy", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with cifar10.zip and resnet_cifar10/ ($TAILORBIRD_DATA)")
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--suite", choices=("quick", "full"), default="quick")
    parser.add_argument("--work", type=Path, help="folder of what is known; a run goes on from there (FILE.json.work)")
    parser.add_argument("--nets", type=_names(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--minutes", type=_numbers, help="training budgets, such as 6,60")
    parser.add_argument("--epochs", type=int, help="a training budget in epochs, such as 30 on a GPU")
    parser.add_argument("--device", default="cpu", help="where to train and evaluate, such as cuda; default: cpu")
    parser.add_argument("--stages", type=_names((*STAGES, _REPORT)), help=_STAGES)
    parser.add_argument("--predictors", default="*", help="pattern on the names of predictors")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of torch; default: cores")
    parser.add_argument("--subnets", type=int, help="random subnets, instead of the suite's")
    parser.add_argument("--seeds", type=int, help="predictor seeds, instead of the suite's")
    parser.add_argument("--batch", type=int, help="training images in a step")
    parser.add_argument("--fit", type=json.loads, help="further options of SuperNet.fit as a JSON object")
    parser.add_argument(
        "--earlier", type=Path, help="an object whose cases are kept where this run knows nothing of them"
    )
    parser.add_argument("--summary", action="store_true", help="print tables on stderr as well")
    options = parser.parse_args()
    suite = QUICK if options.suite == "quick" else FULL
    options.stages = options.stages or STAGES[: None if options.suite == "full" else -1]
    options.nets = options.nets or list(suite.nets)
    options.work = options.work or Path(f"{options.json or 'accuracy.json'}.work")
    given = options.data or os.environ.get("TAILORBIRD_DATA")
    if given is None and options.nets != ["digits"]:
        parser.error("--data is needed: a folder with cifar10.zip and resnet_cifar10/*.safetensors")
    options.data = Path(given or os.devnull)
    return options


def _names(known: Any) -> Any:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; known are {', '.join(known)}")
        return chosen

    return parse


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _settings(options: argparse.Namespace, net: str) -> Settings:
    base = DIGITS if net == "digits" else QUICK if options.suite == "quick" else FULL
    own = {"subnets": options.subnets, "seeds": options.seeds, "batch": options.batch, "fit": options.fit}
    own["device"] = options.device
    return replace(base, **{name: value for name, value in own.items() if value is not None})


def _cases(options: argparse.Namespace, net: str, work: Work, *, suite: bool = False) -> list[Case]:
    """Of a network: those asked for, or those of the suite."""
    settings = _settings(options, net)
    budgets = [Budget(minutes=minutes) for minutes in settings.minutes]
    if not suite and (options.minutes or options.epochs):
        budgets = [Budget(minutes=minutes) for minutes in options.minutes or ()]
        budgets += [Budget(epochs=options.epochs)] if options.epochs else []
    return [Case(settings, net, budget, options.data, work) for budget in budgets]


def _run(case: Case, options: argparse.Namespace) -> None:
    stages = options.stages
    if "original" in stages:
        _tell(case, "original")
        original.evaluate(case)
    if "train" not in stages and training.known(case) is None:
        _tell(case, "not trained yet")
        return
    _tell(case, "train")
    net = training.train(case)
    if "evaluate" in stages:
        _evaluate(case, net)
    if "predict" in stages:
        for seed in range(case.settings.seeds):
            for name in prediction.PREDICTORS:
                if fnmatch(name, options.predictors):
                    _tell(case, f"predict: {name}, seed {seed}")
                    prediction.predict(case, net, name, seed)
    if "frontier" in stages:
        for seed in range(case.settings.seeds):
            _tell(case, f"frontier, seed {seed}")
            frontier.search(case, net, seed)
        if case.tuning:
            _tell(case, "tune the best")
            tuning.tune(case, net, 0)
    if "headline" in stages:
        _tell(case, "headline")
        latency_stage.compare(case, net)


def _evaluate(case: Case, net: SuperNet) -> None:
    subnets = drawn(case, net)
    assert subnets is not None
    judge(case, net, Config(), slice(0, len(case.images.held[1])))
    for number, config in enumerate(subnets.configs, 1):
        _tell(case, f"evaluate {number} of {len(subnets.configs)}")
        figures.judge_random(case, net, config)


def _tell(case: Case, what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {case.name}: {what}\n")
    sys.stderr.flush()


def _report(outcome: Outcome, options: argparse.Namespace, asked: list[Case], work: Work, begin: float) -> None:
    """Everything that is known of the suite's cases and of those asked for."""
    nets = (QUICK if options.suite == "quick" else FULL).nets
    suite = [case for net in nets for case in _cases(options, net, work, suite=True)]
    cases = {case.name: case for case in (*suite, *asked)}
    found: dict[str, Any] = {}
    stages = 0.0
    for name, case in cases.items():
        if original.known(case) is not None or training.known(case) is not None:
            found[name], rows = figures.of_case(case)
            found[name]["machine"] = machine()
            outcome.rows += rows
        if name in {one.name for one in suite}:
            stages = sum(record.wall_seconds for record in work.used.values())
    used = list(work.used.values())
    if any(record.code != code_version()[:12] for record in used):
        sys.stderr.write("some stages were run by another version of the package: begin with a fresh --work folder\n")
    outcome.figures |= {
        "cases": found,
        "settings": {case.network.name: asdict(case.settings) for case in cases.values() if case.name in found},
        "images": _IMAGES,
        "clock": WORDING,
        "threads": sorted({record.threads for record in used}),
        "code": sorted({record.code for record in used}),
        "code_now": code_version()[:12],
        "stage_seconds": round(stages, 1),
        "references": figures.REFERENCES,
        "published": {"fastnas": targets.FASTNAS},
    }
    if options.earlier is not None:
        earlier.keep(outcome, options.earlier)
    whole = options.suite == "quick" and all(_complete(found.get(case.name)) for case in suite)
    lean = all(record.threads <= _QUICK_THREADS for record in used)
    elapsed = max(stages, time.monotonic() - begin)
    targets.judge(outcome, found, elapsed if whole and lean else None)
    compared = [case["headline"] for case in found.values() if case["headline"]]
    if compared:
        headline.judge(outcome, compared[0])


def _complete(found: dict[str, Any] | None) -> bool:
    """Whether every stage of a case was run."""
    return (
        found is not None
        and found["training"] is not None
        and found["subnets"] is not None
        and found["subnets"]["evaluated"] == found["subnets"]["asked"]
        and set(prediction.PREDICTORS) <= set(found["predictors"])
        and all(found["frontier"])
    )


if __name__ == "__main__":
    main()
