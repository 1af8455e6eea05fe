from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tailorbird.errors import EnvironmentFaultError, TailorbirdError, UsageError
from tailorbird.supernet.accuracy.shards import spread


def root_mean(seed: int) -> tuple[int, float]:
    """Depends on the number of threads: sums of different parts round differently."""
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(seed))
    return torch.get_num_threads(), float(values.square().sum().sqrt())


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    items = list(range(7))
    alone = sorted(spread(root_mean, items, workers=1))
    assert [item for item, _ in alone] == items
    assert all(threads == 1 for _, (threads, _) in alone)
    for workers in (2, 3, 20):
        assert sorted(spread(root_mean, items, workers=workers)) == alone


def test_one_worker_leaves_the_threads_of_torch_as_they_were() -> None:
    before = torch.get_num_threads()
    list(spread(root_mean, [1, 2], workers=1))
    assert torch.get_num_threads() == before


def test_what_a_dead_worker_left_undone_is_done_by_another(tmp_path: Path) -> None:
    def work(item: int) -> int:
        if item in {1, 4}:
            with contextlib.suppress(FileExistsError):
                (tmp_path / str(item)).touch(exist_ok=False)  # the first to come here dies
                os.kill(os.getpid(), signal.SIGKILL)
        return item * item

    found = dict(spread(work, range(6), workers=2))
    assert found == {item: item * item for item in range(6)}


def test_workers_that_keep_dying_give_one_clear_error() -> None:
    def work(_item: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    with pytest.raises(EnvironmentFaultError, match="die before") as error:
        list(spread(work, range(4), workers=2))
    assert "-9" in error.value.why


class PickyError(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_an_error_in_a_worker_reaches_the_caller_as_it_is_or_told_where_it_cannot_travel() -> None:
    def refuse(item: int) -> int:
        raise UsageError(f"item {item} will not do", why="it is odd", fix="take another")

    def fail(_item: int) -> int:
        raise PickyError("out of", "luck")

    with pytest.raises(UsageError, match="will not do") as error:
        list(spread(refuse, [1, 3], workers=2))
    assert (error.value.why, error.value.fix) == ("it is odd", "take another")
    with pytest.raises(TailorbirdError, match="out of luck") as told:
        list(spread(fail, [1, 3], workers=2))
    assert "PickyError" in told.value.why


def test_an_impossible_number_of_workers_is_refused() -> None:
    with pytest.raises(UsageError, match="0 workers"):
        list(spread(root_mean, [1], workers=0))


_ENDLESS = """
import os, threading
from tailorbird.supernet.accuracy.shards import spread

def work(item):
    threading.Event().wait(0.02)
    return item

for count, _ in enumerate(spread(work, range(100_000), workers=2)):
    if count == 4:
        os.write(1, b"under way\\n")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_parent_leaves_no_process_behind(how: signal.Signals) -> None:
    command = [sys.executable, "-c", _ENDLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "under way\n"
        parent.send_signal(how)
        _, complaints = parent.communicate(timeout=60)  # ends when nobody holds the other end: all are gone
    assert parent.returncode != 0
    assert complaints.count("Traceback") == (1 if how == signal.SIGINT else 0)  # the parent's own, of Ctrl-C
