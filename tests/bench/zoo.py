"""The compiler on every network of the zoo: python -m tests.bench.zoo [--suite quick|full] [--json FILE].

Each network runs in a process of its own with a time limit; its row is appended to FILE.rows.jsonl as soon as it is
known, and --resume goes on from there. After the networks, alone on the machine, come the timings (--part).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tests.bench.outcome import Outcome, publish
from tests.bench.zoo_summary import declare, judge, table
from tests.zoo import catalogue

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = "tailorbird.bench.zoo/1"
_RESERVE_KIB = 4 << 20  # of free memory; a new process waits for the others below it
_SPEED_LIMIT = 900.0

Row = dict[str, Any]


def main() -> None:
    """Run the networks that are asked for and print the object."""
    options = _arguments()
    outcome = Outcome(SCHEMA, options.suite)
    declare(outcome)
    known = _known(options.rows) if options.resume else {}
    if not options.resume:
        options.rows.unlink(missing_ok=True)
    if options.part != "speed":
        _models(options, _chosen(options), known)
    if options.part != "models" and "speed" not in known:
        known["speed"] = _speed(options)
    rows = [known[name] for name in _chosen(options) if name in known]
    judge(outcome, rows, known.get("speed"), whole=options.suite == "full" and options.only is None)
    sys.stderr.write(table(outcome, rows))
    publish(outcome, options.json)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=("quick", "full"), default="full")
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--part", choices=("all", "models", "speed"), help="default: all of full, the models of quick")
    parser.add_argument("--only", help="pattern on names, such as 'timm/*'")
    parser.add_argument("--resume", action="store_true", help="keep the rows that are there")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time, one core each")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds for one network, Torch-Pruning included")
    parser.add_argument("--no-pruning", dest="pruning", action="store_false", help="leave Torch-Pruning out")
    options = parser.parse_args()
    options.part = options.part or ("all" if options.suite == "full" else "models")
    options.rows = Path(f"{options.json or 'zoo'}.rows.jsonl")
    return options


def _chosen(options: argparse.Namespace) -> list[str]:
    listed = catalogue.QUICK if options.suite == "quick" else catalogue.names()
    return [name for name in listed if options.only is None or fnmatch(name, options.only)]


def _known(rows: Path) -> dict[str, Row]:
    lines = rows.read_text().splitlines() if rows.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def _models(options: argparse.Namespace, chosen: list[str], known: dict[str, Row]) -> None:
    ahead = [name for name in chosen if name not in known]
    with ThreadPoolExecutor(options.jobs) as pool:
        running = [pool.submit(_model, name, options) for name in ahead]
        for number, done in enumerate(as_completed(running), 1):
            row = done.result()
            known[row["name"]] = row
            _keep(options.rows, row)
            sys.stderr.write(f"{number}/{len(ahead)} {row['name']} {row['status']}\n")


def _model(name: str, options: argparse.Namespace) -> Row:
    while _free_kib() < _RESERVE_KIB:
        time.sleep(1)
    arguments = ["-m", "tests.bench.zoo_child", name, *(["--pruning"] if options.pruning else [])]
    lines, end = _child(arguments, options.limit)
    entry = catalogue.entry(name)
    row: Row = {"name": name, "wants": {"depth": entry.residual, "heads": entry.attention}}
    row |= lines[0] if lines else {"status": "failed", "captured": False, "error": end}
    if options.pruning:
        row["pruning"] = lines[1]["pruning"] if len(lines) > 1 else {"ran": False, "error": end}
    return row


def _speed(options: argparse.Namespace) -> Row:
    lines, end = _child(["-m", "tests.bench.zoo_speed"], _SPEED_LIMIT)
    row = {"name": "speed", **(lines[0] if lines else {"error": end})}
    _keep(options.rows, row)
    return row


def _child(arguments: list[str], limit: float) -> tuple[list[Row], str]:
    """The objects a child printed before its time was up, and how it ended."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        end = f"exit {process.returncode}: {err.strip()[-400:]}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
        end = f"not ready after {limit:.0f} s"
    return [json.loads(line) for line in out.splitlines() if line.startswith("{") and line.endswith("}")], end


def _keep(rows: Path, row: Row) -> None:
    with rows.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _free_kib() -> int:
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(meminfo["MemAvailable"].split()[0])


if __name__ == "__main__":
    main()
