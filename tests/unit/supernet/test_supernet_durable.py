"""Files that are whole or not there, and what killed writers leave beside them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from tailorbird.supernet.durable import read_tensors, write_tensors


class Deadly:
    """Kills the process that writes it."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Slow:
    """Is written when somebody says so."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        self.begun.set()
        assert self.may_end.wait(60)
        return OrderedDict, ()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.pt"


def killed_while_writing(path: Path) -> str:
    """The name of what it left."""
    before = names(path.parent)
    child = multiprocessing.get_context("fork").Process(target=write_tensors, args=({"x": Deadly()}, path))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (left,) = set(names(path.parent)) - set(before)
    return left


def test_what_a_killed_writer_left_goes_with_the_next_write_of_the_same_file(path: Path) -> None:
    write_tensors({"x": torch.ones(2)}, path)
    left, other = killed_while_writing(path), killed_while_writing(path.with_name("other.pt"))
    assert left.endswith(".partial")
    assert torch.equal(read_tensors(path)["x"], torch.ones(2))
    write_tensors({"x": torch.zeros(2)}, path)
    assert names(path.parent) == sorted([other, "run.pt"])


def test_a_file_that_is_still_being_written_is_nobodys_leftover(path: Path) -> None:
    slow = Slow()
    writer = threading.Thread(target=write_tensors, args=({"x": slow}, path))
    writer.start()
    assert slow.begun.wait(60)
    write_tensors({"x": torch.ones(2)}, path)
    assert len(names(path.parent)) == 2
    slow.may_end.set()
    writer.join()
    assert names(path.parent) == ["run.pt"]
    assert read_tensors(path) == {"x": {}}


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(path: Path) -> None:
    write_tensors({"x": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        write_tensors({"x": lambda: None}, path)
    assert names(path.parent) == ["run.pt"]
    assert read_tensors(path) == {"x": 1}
