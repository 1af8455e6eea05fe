"""Run the benchmark; the package's docstring says what it measures."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch: this process shall disturb as little as it can

from tests.bench.outcome import Outcome, publish  # noqa: E402
from tests.bench.swap import judging, kills, loadgen, rungs, traffic  # noqa: E402
from tests.bench.swap.settings import SUITES, Suite  # noqa: E402

SCHEMA = "tailorbird.bench.swap/1"
STAGES = ("traffic", "switches", "cold", "memory", "loadgen", "kills")
#: Policies that go from rung to rung, piece by piece.
_POLICIES = ("two-channel", "slackfit")


def main() -> None:
    """Do the stages that are not known yet and print the object with all that are."""
    options = _arguments()
    suite = SUITES[options.suite]
    outcome = Outcome(SCHEMA, options.suite)
    for name, wording in judging.TARGETS.items():
        outcome.target(name, wording)
    known = _Known(options.work / options.suite, report=options.report)
    if "traffic" in options.stages:
        _traffic(outcome, suite, known, options.pieces)
    for name, measure, judge in (
        ("switches", lambda: rungs.switches(suite.switches), judging.judge_switches),
        ("cold", lambda: rungs.cold(suite.cold), judging.judge_cold),
        ("memory", rungs.memory, judging.judge_memory),
    ):
        if name in options.stages and (found := known.stage(name, measure)) is not None:
            judge(outcome, found)
    if "loadgen" in options.stages:
        _loadgen(outcome, suite, known)
    if "kills" in options.stages:
        _kills(outcome, suite, known)
    publish(outcome, options.json)


class _Known:
    """The work folder: a file for every stage that is done. report: do none anew."""

    def __init__(self, folder: Path, *, report: bool) -> None:
        self.folder = folder
        self._report = report
        folder.mkdir(parents=True, exist_ok=True)

    def stage(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """What a stage measured, now unless the folder has it; None where only known ones are asked for."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            if self._report:
                return None
            sys.stderr.write(f"{name}\n")
            part = path.with_suffix(".part")
            part.write_text(json.dumps(measure()))
            part.replace(path)
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def piece(self, number: int, piece: traffic.Piece) -> Path | None:
        """The file of a piece of the load, made now unless it is there."""
        path = self.folder / f"piece{number:03d}.npz"
        if not path.exists():
            if self._report:
                return None
            sys.stderr.write(f"piece {number}\n")
            traffic.run(piece, path)
        return path


def _traffic(outcome: Outcome, suite: Suite, known: _Known, pieces: int) -> None:
    seen = []
    for number in range(pieces or suite.pieces):
        policy = _POLICIES[number % len(_POLICIES)]
        path = known.piece(number, traffic.Piece(suite.requests, suite.deployments, policy))
        if path is not None:
            seen.append(judging.watched(path))
    if seen:
        judging.judge_traffic(outcome, seen)


def _loadgen(outcome: Outcome, suite: Suite, known: _Known) -> None:
    for target, scenario in ((judging.SINGLE_STREAM, "SingleStream"), (judging.SERVER, "Server")):
        found = known.stage(f"loadgen-{scenario}", lambda scenario=scenario: loadgen.run(scenario, suite.load_s))
        if found is not None:
            judging.judge_load(outcome, target, found)


def _kills(outcome: Outcome, suite: Suite, known: _Known) -> None:
    each = suite.kills // suite.kill_parts
    parts = [
        known.stage(f"kills{number:03d}", lambda number=number: kills.run(each, number))
        for number in range(suite.kill_parts)
    ]
    found = [part for part in parts if part is not None]
    if found:
        judging.judge_kills(outcome, found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.swap", description=__doc__)
    parser.add_argument("--suite", choices=tuple(SUITES), default="full")
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--work", type=Path, help="folder of what is known; a run goes on from there (FILE.json.work)")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=STAGES, help="of all, only these")
    parser.add_argument("--pieces", type=int, default=0, help="pieces of the load instead of the suite's")
    parser.add_argument("--report", action="store_true", help="tell what is known, without new stages")
    options = parser.parse_args()
    unknown = set(options.stages) - set(STAGES)
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are: {', '.join(STAGES)}")
    options.work = (options.work or Path(f"{options.json or 'swap.json'}.work")).absolute()
    return options


if __name__ == "__main__":
    main()
