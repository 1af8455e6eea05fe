"""The few-shot benchmark: what it feeds to predictors, what it counts, and that a run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tailorbird.predict.transfer import Prediction
from tests.bench.latency_fewshot import features, figures, targets, work
from tests.bench.latency_fewshot.scores import scores
from tests.bench.latency_fewshot.tables import SYNTHETIC, table
from tests.bench.latency_fewshot.tasks import Pair, family, pairs, split
from tests.bench.outcome import Outcome

ROOT = Path(__file__).resolve().parents[3]
NONE, SKIP, CONV1, CONV3, POOL = range(5)


@pytest.mark.parametrize(
    ("cell", "live", "launches", "additions", "connected"),
    [
        ((CONV3, NONE, CONV3, NONE, NONE, CONV3), 3, 3, 0, 1),
        ((CONV3, NONE, NONE, SKIP, NONE, NONE), 1, 0, 0, 1),  # the convolution leads nowhere
        ((CONV3, CONV1, CONV1, POOL, CONV3, SKIP), 6, 2, 3, 1),
        ((NONE, NONE, CONV3, NONE, CONV3, CONV3), 0, 0, 0, 0),
    ],
)
def test_cells_are_counted_without_what_no_output_depends_on(cell, live, launches, additions, connected):
    row = features.of("nb201", np.array([cell]), ())[1][0]
    assert row[-3] == live
    assert row[9] == launches
    assert row[-4] == additions
    assert row[-1] == connected
    assert row[:4].sum() == live


def test_a_block_of_fbnet_costs_what_its_convolutions_do():
    operators = ("k3_e1", "k5_e6", "k3_e1_g2", "skip")
    genes = np.full((4, 22), 3)
    genes[:3, 0] = (0, 1, 2)
    structure = features.of("fbnet", genes, operators)[1]
    arithmetic = structure[:, len(operators) + 1]
    first, inner = 16 * 16 * 256, 16 * 256
    assert arithmetic[0] - arithmetic[3] == 2 * first + 9 * inner
    assert arithmetic[1] - arithmetic[3] == 6 * (2 * first + 25 * inner)
    assert arithmetic[2] - arithmetic[3] == first + 9 * inner


def test_the_tasks_are_the_published_ones(data_folder: Path):
    found = pairs(data_folder)
    assert Counter(pair.suite for pair in found) == {"nasflat": 51, "help": 9, "oneproxy": 26, "lodo": 59}
    for pair in found:
        assert pair.target not in pair.proxies
        assert {pair.target, *pair.proxies} <= set(table(data_folder, pair.space).devices)
        if pair.suite == "lodo":
            assert family(pair.target) not in map(family, pair.proxies)
    assert all(columns <= set(table(data_folder, space).devices) for space, columns in SYNTHETIC.items())


@pytest.mark.parametrize("suite", ["nasflat", "help"])
def test_what_is_predicted_was_measured_nowhere(data_folder: Path, suite: str):
    for pair in pairs(data_folder, [suite])[:8]:
        parts = split(pair, table(data_folder, pair.space), 0)
        assert not set(parts.test) & set(parts.pool)
        assert set(parts.candidates) <= set(parts.pool)
        assert len(parts.candidates) > 300
        assert len(set(parts.test)) == len(parts.test) >= 300


def test_scores_say_what_they_are_called():
    measured = np.array([1.0, 2.0, 3.0, 4.0])
    predicted = Prediction(np.array([1.05, 2.5, 3.0, 3.9]), measured - 0.01, np.array([1.1, 2.1, 2.9, 4.1]))
    found = scores(measured, predicted, times=True)
    assert found["srcc"] == found["kendall"] == 1
    assert found["mape"] == pytest.approx((5 + 25 + 0 + 2.5) / 4)
    assert found["within10"] == 75
    assert found["covered"] == 75
    flat = scores(measured, Prediction.without_interval(np.ones(4)), times=False)
    assert flat == {"srcc": 0, "kendall": 0}


def _trials(value: float, rival: float) -> list[figures.Found]:
    """Every suite with one pair, ours and the rivals at the same SRCC with all numbers of samples."""

    def row(predictor: str, sampling: str, samples: int) -> dict[str, object]:
        better = value if predictor == "hgp" else rival
        rest = {"kendall": better, "mape": 1.0, "within10": 99.0, "covered": 90.0, "width": 9.0}
        return {"predictor": predictor, "sampling": sampling, "samples": samples, "srcc": better, **rest}

    rows = [
        row(predictor, sampling, samples)
        for predictor in ("hgp", "adaproxy_best", "rich_ridge")
        for sampling in ("chosen", "random")
        for samples in (5, 10, 20, 50, 100)
    ]
    listed = [Pair(suite, "T", "fbnet", ("a",), "b") for suite in ("nasflat", "help", "oneproxy", "lodo")]
    listed.append(Pair("help", "T", "nb201", ("a",), "b"))
    return [figures.Found(pair, 0, rows) for pair in listed]


def _met(found: list[figures.Found]) -> dict[str, bool]:
    outcome = Outcome("s/1", "full")
    targets.declare(outcome)
    targets.judge(outcome, found)
    return outcome.met


def test_every_target_can_be_met_and_missed():
    assert all(_met(_trials(0.99, 0.9)).values())
    missed = {name for name, met in _met(_trials(0.9, 0.9)).items() if not met}
    assert {"srcc_20", "srcc_50", "above_rich_ridge_lodo", "above_adaproxy_best_help", "help_nb201"} <= missed
    assert "srcc_5" not in missed
    assert not any(_met([]).values())


def test_each_pair_counts_once_whatever_its_draws():
    rows = {"predictor": "hgp", "sampling": "chosen", "samples": 5}
    one, two = (Pair("nasflat", "T", "fbnet", ("a",), target) for target in "bc")
    found = [figures.Found(one, seed, [{**rows, "srcc": 1.0}]) for seed in range(3)]
    found.append(figures.Found(two, 0, [{**rows, "srcc": 0.5}]))
    means = figures.mean(found, lambda _: True, **rows)
    assert means == {"srcc": 0.75, "srcc_worst_decile": 0.5, "pairs": 2}


def test_a_line_that_a_killed_run_left_unfinished_is_done_again(tmp_path: Path):
    path = tmp_path / work.version() / "trials.jsonl"
    path.parent.mkdir()
    work._append(path, {"key": "a", "rows": [1]})
    path.write_bytes(path.read_bytes() + b'{"key": "b"')
    assert work.known(tmp_path) == {"a": [1]}
    assert list(work.run(tmp_path, tmp_path, [], 1)) == []
    work._append(path, {"key": "c", "rows": [2]})
    assert work.known(tmp_path) == {"a": [1], "c": [2]}


@pytest.mark.slow
def test_a_run_goes_on_from_what_is_known(data_folder: Path, tmp_path: Path):
    target = tmp_path / "out.json"
    command = [sys.executable, "-m", "tests.bench.latency_fewshot", "--data", str(data_folder), "--json", str(target)]
    command += ["--suites", "help", "--seeds", "1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    for expected in ("9/9", ""):
        done = subprocess.run(command, capture_output=True, text=True, timeout=170, cwd=ROOT, env=environment)
        assert done.returncode == 0, done.stderr
        assert expected in done.stderr
        assert bool(expected) == bool(done.stderr), "the second run has nothing to do"
    found = json.loads(target.read_text())
    assert found["figures"]["trials"] == {"asked": 9, "done": 9, "least_draws_of_a_pair": 1}
    assert not any(found["met"].values()), "one draw is no measurement"
    assert found["figures"]["means"]["help"]["all"]["chosen"]["hgp"]["20"]["srcc"] > 0.9
