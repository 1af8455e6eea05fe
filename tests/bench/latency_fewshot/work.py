"""Trials in processes, kept in a folder: a run goes on from what is there, made with the same predictors."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import tailorbird.predict
from tests.bench.latency_fewshot.tasks import Pair
from tests.bench.latency_fewshot.trials import Row, trial

_FILE = "trials.jsonl"
_PREDICTORS = ("proxy", "proxy_table", "proxy_gp", "hgp", "ridge", "adaproxy", "design", "transfer")
_TRIALS = ("tables", "features", "tasks", "scores", "trials")


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of the file."""

    pair: Pair
    seed: int
    counts: tuple[int, ...]

    @property
    def key(self) -> str:
        return json.dumps([self.pair.suite, self.pair.task, self.pair.target, self.seed, self.counts])


def version() -> str:
    """Digest of what the predictors and the trials compute, whatever the form of their sources: no two are mixed."""
    product, here = Path(tailorbird.predict.__file__).parent, Path(__file__).parent
    sources = [product / f"{name}.py" for name in _PREDICTORS] + [here / f"{name}.py" for name in _TRIALS]
    trees = [ast.parse(path.read_text()) for path in sources]
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return hashlib.sha256("".join(map(ast.dump, trees)).encode()).hexdigest()[:12]


def known(folder: Path) -> dict[str, list[Row]]:
    """Rows by key of their trial. A line that a killed run did not finish does not count."""
    path = folder / version() / _FILE
    text = path.read_text() if path.is_file() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return {entry["key"]: entry["rows"] for entry in map(json.loads, lines)}


def run(folder: Path, data: Path, trials: Sequence[Trial], processes: int) -> Iterator[Trial]:
    """Do what is not known yet, in order; yields each trial as it is done."""
    path = folder / version() / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    done = known(folder)
    _drop_unfinished_line(path)
    ahead = [one for one in trials if one.key not in done]
    # Forked workers would inherit the threads of a BLAS that is in use.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(trial, data, one.pair, one.seed, one.counts): one for one in ahead}
        for number, future in enumerate(as_completed(waiting), 1):
            one = waiting[future]
            _append(path, {"key": one.key, "rows": future.result()})
            sys.stderr.write(f"{number}/{len(ahead)} {one.pair.task}, {one.pair.target}, draw {one.seed}\n")
            yield one


def _append(path: Path, entry: dict[str, object]) -> None:
    with path.open("ab") as file:
        file.write(json.dumps(entry).encode() + b"\n")


def _drop_unfinished_line(path: Path) -> None:
    if path.is_file():
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
