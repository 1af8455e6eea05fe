"""Worker processes: a bad request, a hanging one and a crash cost one answer each."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Iterator

import pytest

from tailorbird.compile.base import CompileTarget
from tailorbird.errors import CompileError, EnvironmentFaultError
from tailorbird.tune.builders import Builders

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")


@pytest.fixture
def builders() -> Iterator[Builders]:
    with Builders(CompileTarget("x86_64-linux-gnu", ""), workers=1) as pool:
        yield pool


def test_a_request_that_fails_is_answered_and_the_worker_goes_on(builders: Builders) -> None:
    reply = builders.submit({"do": "describe", "kernel": "/no/such/file", "name": "k"}).result()
    assert "FileNotFoundError" in reply["error"]
    assert "KeyError" in builders.submit({"do": "nothing known"}).result()["error"]
    with pytest.raises(CompileError, match="worker failed"):
        builders.call({"do": "nothing known"})


def test_a_killed_worker_is_replaced(builders: Builders) -> None:
    builders.submit({"do": "nothing known"}).result()
    before = builders.process_ids()
    os.kill(before[0], signal.SIGKILL)
    lost = builders.submit({"do": "nothing known"}).result()
    assert "worker ended" in lost["error"]
    assert "KeyError" in builders.submit({"do": "nothing known"}).result()["error"]
    assert builders.process_ids() != before


def test_a_worker_that_hangs_is_replaced() -> None:
    with Builders(CompileTarget("x86_64-linux-gnu", ""), workers=1, timeout_s=0.2) as pool:
        pool.submit({"do": "nothing known"}).result()
        os.kill(pool.process_ids()[0], signal.SIGSTOP)
        assert "no answer in 2 s" in pool.submit({"do": "nothing known"}).result()["error"]


def test_files_and_processes_are_gone_after_closing() -> None:
    pool = Builders(CompileTarget("x86_64-linux-gnu", ""), workers=1)
    (process,) = pool.process_ids()
    pool.close()
    assert not pool.folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_target_nobody_can_link_for_is_refused_at_once() -> None:
    with pytest.raises(EnvironmentFaultError, match="riscv64"):
        Builders(CompileTarget("riscv64-linux-gnu", ""))
