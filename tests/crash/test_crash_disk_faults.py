"""The disk fails at operation k, for every k: once, or from then on. Nothing is corrupt, and the next life goes on."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

import pytest
from store_life import Promised, UnsyncedFilesystem, check, life, operations

from tailorbird_agent.deploy import machine
from tailorbird_agent.errors import StoreError
from tailorbird_agent.ledger import Ledger
from tailorbird_agent.store import gc
from tailorbird_agent.store.blobs import Blobs
from tailorbird_agent.store.filesystem import FULL

YEAR_S = 365 * 86_400.0


@dataclass
class FailingFilesystem(UnsyncedFilesystem):
    """Operation `at` fails, and every one after it when it lasts."""

    at: int
    error: int
    lasts: bool
    count: int = 0

    def step(self, operation: str, path: Path) -> None:
        self.count += 1
        if self.count - 1 == self.at or (self.lasts and self.count > self.at):
            raise OSError(self.error, "the disk says no", str(path))


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        pytest.param(errno.ENOSPC, True, id="full"),
        pytest.param(errno.EDQUOT, False, id="over quota once", marks=pytest.mark.slow),
        pytest.param(errno.EROFS, True, id="read-only", marks=pytest.mark.slow),
        pytest.param(errno.EIO, False, id="input/output error once"),
        pytest.param(errno.EIO, True, id="input/output errors", marks=pytest.mark.slow),
    ],
)
def test_whichever_operation_the_disk_refuses_nothing_is_corrupt_and_the_next_life_goes_on(
    folder: Path, error: int, lasts: bool
) -> None:
    total = operations(folder / "whole")
    final = check(folder / "whole")
    for k in range(total):
        root = folder / str(k)
        promised = Promised()
        with pytest.raises((OSError, StoreError)) as caught:
            life(root, FailingFilesystem(k, error, lasts), promised)
        if isinstance(caught.value, StoreError):
            assert (error in FULL, caught.value.reason) == (True, "DISK_FULL")
        else:
            assert caught.value.errno == error
        before = check(root)
        assert before.generation >= promised.generation
        life(root, UnsyncedFilesystem(), promised)
        after = check(root)
        assert (after.active, after.phase) == (final.active, machine.Phase.COMMITTED)
        assert Ledger(root).next_fencing_token() > promised.token


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S], ids=["a year ahead", "a year back"])
def test_a_clock_that_jumps_costs_no_blob_that_is_needed(folder: Path, jump_s: float) -> None:
    life(folder, UnsyncedFilesystem(), Promised())
    now = Ledger(folder).get("m")
    blobs = Blobs(folder)
    gc.collect(blobs, gc.mark(blobs, now.bundles), now_s=_newest_s(blobs) + jump_s, grace_s=600.0)
    assert check(folder) == now


def test_a_clock_that_was_set_back_keeps_what_nobody_needs_for_a_grace_and_no_year(folder: Path) -> None:
    blobs = Blobs(folder, UnsyncedFilesystem())
    stray = blobs.put(b"nobody needs this")
    path = blobs.path(stray)
    today_s = path.stat().st_mtime
    ahead_ns = round((today_s + YEAR_S) * 1e9)
    blobs.files.set_time(path, ahead_ns)  # written while the clock was wrong
    assert gc.collect(blobs, frozenset(), now_s=today_s, grace_s=600.0).blobs == 0
    assert gc.collect(blobs, frozenset(), now_s=today_s + 300.0, grace_s=600.0).blobs == 0
    assert gc.collect(blobs, frozenset(), now_s=today_s + 601.0, grace_s=600.0).blobs == 1
    assert not path.exists()


def _newest_s(blobs: Blobs) -> float:
    return max(path.stat().st_mtime for _, path in blobs.entries())
