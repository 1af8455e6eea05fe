"""Run the benchmark; the package's docstring says what it measures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy: the processes share the cores among themselves

from tests.bench.latency_fewshot import figures, targets, work  # noqa: E402
from tests.bench.latency_fewshot.tasks import SUITES, pairs  # noqa: E402
from tests.bench.outcome import Outcome, publish  # noqa: E402

SCHEMA = "tailorbird.bench.latency_fewshot/1"
_COUNTS = (0, 5, 10, 20, 50, 100)
_FULL_SEEDS, _QUICK_SEEDS, _QUICK_SUITES = 5, 1, ("nasflat", "help")


def main() -> None:
    """Do the trials that are not known yet and print the object with all that are."""
    options = _arguments()
    outcome = Outcome(SCHEMA, options.suite)
    targets.declare(outcome)
    trials = [
        work.Trial(pair, seed, _COUNTS) for seed in range(options.seeds) for pair in pairs(options.data, options.suites)
    ]
    if not options.report:
        for _ in work.run(options.work, options.data, trials, options.processes):
            pass
    known = work.known(options.work)
    found = [figures.Found(one.pair, one.seed, known[one.key]) for one in trials if one.key in known]
    draws = min((sum(one.pair == pair for one in found) for pair in {one.pair for one in trials}), default=0)
    outcome.figures = {
        "predictors": work.version(),
        "trials": {"asked": len(trials), "done": len(found), "least_draws_of_a_pair": draws},
        "means": figures.table(found),
        "tasks": figures.by_task(found),
    }
    if draws >= _FULL_SEEDS:
        targets.judge(outcome, found)
    publish(outcome, options.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency_fewshot", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with latency/SPACE/latency.npz ($TAILORBIRD_DATA)")
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--suite", choices=("quick", "full"), default="quick")
    parser.add_argument("--suites", type=_suites, help=f"of {', '.join(SUITES)}; default: all, quick: nasflat, help")
    parser.add_argument("--seeds", type=int, help=f"draws of each pair; default: {_FULL_SEEDS}, quick: {_QUICK_SEEDS}")
    parser.add_argument("--work", type=Path, help="folder of what is known; a run goes on from there (FILE.json.work)")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="tell what is known, without new trials")
    options = parser.parse_args()
    full = options.suite == "full"
    options.suites = options.suites or (SUITES if full else _QUICK_SUITES)
    options.seeds = options.seeds or (_FULL_SEEDS if full else _QUICK_SEEDS)
    options.work = options.work or Path(f"{options.json or 'latency_fewshot.json'}.work")
    given = options.data or os.environ.get("TAILORBIRD_DATA")
    if given is None:
        parser.error("--data is needed: a folder with latency/nb201/latency.npz and three more")
    options.data = Path(given)
    if not (options.data / "latency").is_dir():
        parser.error(f"{options.data}/latency is no folder")
    return options


def _suites(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    if unknown := [name for name in chosen if name not in SUITES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; known are {', '.join(SUITES)}")
    return chosen


if __name__ == "__main__":
    main()
