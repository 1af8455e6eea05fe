"""Kill training, anywhere, and go on in another process: the weights are those of a run that nobody killed."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.crash.training_lives import CASES, Life, digest, live, loaded

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.crash.training_lives_ready"])


@contextmanager
def process(life: Life) -> Iterator[tuple[BaseProcess, Connection]]:
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=live, args=(life, theirs))
    child.start()
    theirs.close()
    try:
        yield child, ours
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def lived(life: Life) -> tuple[list[int], dict[str, Any] | None, int | None]:
    """Steps told, what came of it (None: it died), exit code."""
    with process(life) as (child, told):
        steps: list[int] = []
        found = None
        while told.poll() or told in wait([told, child.sentinel]):  # its loader's workers outlive it, and hold the pipe
            try:
                message = told.recv()
            except EOFError:
                break
            if isinstance(message, int):
                steps.append(message)
            else:
                found = message
        child.join()
        return steps, found, child.exitcode


def same(found: dict[str, Any]) -> dict[str, Any]:
    """What of an outcome must not depend on what happened on the way."""
    return {name: value for name, value in found.items() if name not in {"notes", "missed"}}


@pytest.fixture(scope="module")
def whole() -> Callable[[str], dict[str, Any]]:
    """What comes of a case when nothing happens, without any checkpoint."""
    known: dict[str, dict[str, Any]] = {}

    def of(case: str) -> dict[str, Any]:
        if case not in known:
            found = lived(Life(case, None))[1]
            assert found is not None
            known[case] = same(found)
        return known[case]

    return of


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    case: str, whole: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path, steps = str(tmp_path / "run.pt"), []
    for at in (4, 7, 12):
        told, _, code = lived(Life(case, path, resume=True, at=at, strange=bool(steps)))
        assert code == -signal.SIGKILL
        steps.append(told)
    told, found, code = lived(Life(case, path, resume=True, strange=True))
    assert code == 0
    # Each life starts with the step that the last one did not write down.
    assert [lives[0] for lives in (*steps, told)] == [1, 4, 7, 12]
    assert found is not None
    assert same(found) == whole(case)
    assert digest(loaded(tmp_path / "run.pt", CASES[case][0])) == found["weights"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_to_use_and_to_go_on_with(
    number: signal.Signals, whole: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    told, found, code = lived(Life("own generators", str(path), every="1h", at=8, signals=(number,)))
    assert (told[-1], code) == (8, 0)
    assert found is not None
    assert (found["stopped_by"], found["steps"]) == ("interrupted", 8)
    assert digest(loaded(path, "convolutions")) == found["weights"]
    told, found, _ = lived(Life("own generators", str(path), resume=True, every="1h", strange=True))
    assert told[0] == 9
    assert found is not None
    assert same(found) == whole("own generators")
    assert digest(loaded(path, "convolutions")) == found["weights"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_twice_is_obeyed_at_once(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    told, found, code = lived(Life("batches", str(path), every=2, at=5, signals=(number, number)))
    assert (told[-1], found) == (5, None)
    assert code == (1 if number is signal.SIGINT else -number)
    told, _, _ = lived(Life("batches", str(path), resume=True))
    assert told[0] == 5


def test_a_checkpoint_is_whole_whenever_the_process_dies(
    whole: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path, done = tmp_path / "run.pt", 0
    for after in (1, 3, 2, 3):
        with process(Life("batches", str(path), resume=True, strange=done > 0)) as (child, told):
            first = told.recv()
            assert first in {done, done + 1, done + 2}  # nothing is done twice but the step that was on its way
            done = first
            while done < first + after:
                done = told.recv()
            child.kill()  # in a step, while a checkpoint is written, or between the two
            child.join()
            while told.poll():
                try:
                    done = told.recv()
                except EOFError:
                    break
    _, found, _ = lived(Life("batches", str(path), resume=True, strange=True))
    assert found is not None
    assert same(found) == whole("batches")
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]


def test_training_goes_on_while_the_disk_is_full_and_says_so_once(
    whole: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    _, found, _ = lived(Life("batches", str(path), full=(4, 9)))
    assert found is not None
    assert same(found) == whole("batches")
    assert found["missed"] == 5
    (note,) = found["notes"]
    assert "could not be written (File too large); training goes on" in note
    assert [file.name for file in tmp_path.iterdir()] == ["run.pt"]
    assert digest(loaded(path, "norms")) == found["weights"]


def test_a_disk_that_stays_full_costs_the_file_but_not_what_was_there(
    whole: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "run.pt"
    _, found, code = lived(Life("batches", str(path), full=(6, 99)))
    assert found is not None
    assert code == 0
    assert "could not be written\nwhy: File too large" in found["error"]
    assert found["weights"] == whole("batches")["weights"]  # what was trained is in the network
    told, found, _ = lived(Life("batches", str(path), resume=True, strange=True))
    assert told[0] == 6
    assert found is not None
    assert same(found) == whole("batches")


def test_a_disk_that_is_full_from_the_start_is_found_out_before_training(tmp_path: Path) -> None:
    told, found, _ = lived(Life("batches", str(tmp_path / "run.pt"), full=(0, 99)))
    assert told == []
    assert found is not None
    assert "could not be written" in found["error"]
    assert list(tmp_path.iterdir()) == []
