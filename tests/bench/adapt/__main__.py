"""Run the benchmark; the package's docstring says what it measures."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch: nothing here shall disturb beyond the weather

from tailorbird.flow.record import write_trace  # noqa: E402
from tailorbird_agent.adapt import RungProfile, make_ladder  # noqa: E402
from tailorbird_agent.worker.process import worker_environment  # noqa: E402
from tests.bench.adapt import judging, subjects  # noqa: E402
from tests.bench.adapt.settings import LIVE_DEADLINE, LIVE_POLICIES, SUITES, WEATHER, Kind, Ladder  # noqa: E402
from tests.bench.outcome import Outcome, publish  # noqa: E402

SCHEMA = "tailorbird.bench.adapt/1"
_ROOT = Path(__file__).parents[3]


def main() -> None:
    """Do the passes that are not known yet and print the object with all that are."""
    options = _arguments()
    suite = SUITES[options.suite]
    ladders = [each for each in suite.ladders if not options.ladders or each.name in options.ladders]
    weather = [kind for kind in WEATHER if not options.weather or kind.name in options.weather]
    outcome = Outcome(SCHEMA, options.suite)
    for target in judging.TARGETS:
        outcome.target(target.name, target.wording)
    passes = []
    for ladder in ladders:
        for kind in weather:
            done = _pass(options, ladder, kind)
            if done is not None:
                passes.append(done)
    if options.traces:
        options.traces.mkdir(parents=True, exist_ok=True)
        for one in passes:
            write_trace(one.trace, options.traces / f"{one.ladder}.{one.weather}.json")
    found = [cell for one in passes for cell in judging.cells(one)]
    if found:
        outcome.figures["policies"] = judging.table(found)
        outcome.figures["policies_by_ladder"] = {
            ladder.name: judging.table([cell for cell in found if cell.ladder == ladder.name]) for ladder in ladders
        }
        judging.judge_replay(outcome, found)
        judging.judge_passes(outcome, passes, asked=len(suite.ladders) * len(WEATHER))
    outcome.rows = [
        {"ladder": cell.ladder, "weather": cell.weather, "deadline": cell.deadline, **asdict(cell.score)}
        for cell in found
    ]
    publish(outcome, options.json)


def _pass(options: argparse.Namespace, ladder: Ladder, kind: Kind) -> judging.Pass | None:
    """One pass, done now unless the work folder has it; None where only known ones are asked for."""
    folder = options.work / f"{options.slots}-{ladder.name}"
    out, profile_path = folder / f"{kind.name}.json", options.work / f"{ladder.name}.profile.json"
    cores = _cores(ladder.threads)
    if not out.exists():
        if options.report:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        plan = options.work / "ladders" / ladder.name / "plan.json"
        if not plan.exists():
            sys.stderr.write(f"{ladder.name}: compiling\n")
            subjects.write(ladder, options.data, subjects.card(options.work), options.work)
        order = {"plan": str(plan), "cores": cores, "pin": ladder.threads == 1}
        if not profile_path.exists():
            _in_lab(order | {"out": str(profile_path)}, ladder.threads)
        sys.stderr.write(f"{ladder.name}: {kind.name}\n")
        weather = {"weather": kind.name, "slots": options.slots, "seed": WEATHER.index(kind) + 1}
        live = {"deadline": LIVE_DEADLINE, "policies": LIVE_POLICIES}
        profile = {"profile_us": json.loads(profile_path.read_text()), "out": str(out)}
        _in_lab(order | weather | live | profile, ladder.threads)
    record = json.loads(out.read_text())
    profile_us, plan = json.loads(profile_path.read_text()), options.work / "ladders" / ladder.name / "plan.json"
    accuracy = {rung["name"]: rung["accuracy"] for rung in json.loads(plan.read_text())["rungs"]}
    profiles = make_ladder(RungProfile(name, accuracy[name], cpu_us) for name, cpu_us in profile_us.items())
    return judging.Pass(ladder.name, kind.name, judging.trace_of(profiles, record), record)


def _in_lab(order: dict[str, Any], threads: int) -> None:
    path = Path(order["out"]).with_suffix(".order")
    path.write_text(json.dumps(order))
    environment = worker_environment(threads) | {"PYTHONPATH": os.pathsep.join([*sys.path, str(_ROOT)])}
    subprocess.run([sys.executable, "-m", "tests.bench.adapt.lab", str(path)], check=True, cwd=_ROOT, env=environment)


def _cores(threads: int) -> list[int]:
    """The cores under test: the last ones."""
    return sorted(os.sched_getaffinity(0))[-threads:]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.adapt", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--suite", choices=tuple(SUITES), default="full")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("TAILORBIRD_DATA"), help="folder of resnet_cifar10/"
    )
    parser.add_argument("--work", type=Path, help="folder of what is known; a run goes on from there (FILE.json.work)")
    parser.add_argument("--traces", type=Path, help="write the matrices here as traces")
    parser.add_argument("--ladders", type=lambda text: text.split(","), help="of the suite's ladders, only these")
    parser.add_argument("--weather", type=lambda text: text.split(","), help="only these kinds")
    parser.add_argument("--slots", type=int, help="slots of each pass instead of the suite's")
    parser.add_argument("--report", action="store_true", help="tell what is known, without new passes")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set TAILORBIRD_DATA")
    options.data = Path(options.data)
    options.slots = options.slots or SUITES[options.suite].slots
    options.work = (options.work or Path(f"{options.json or 'adapt.json'}.work")).absolute()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
