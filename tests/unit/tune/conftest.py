"""What the tests of tuning share: a real agent, a store that knows it, and workers that compile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tuning_rig import BRIEF, TARGET, Tune, pool_on

from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import LocalAgent
from tailorbird.tune.builders import Builders
from tailorbird.tune.session import boards_of, tune
from tailorbird.tune.tuner import Tuning


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    started = LocalAgent.start(tmp_path_factory.mktemp("agent") / "a", name="board")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    with Builders(TARGET, workers=1, timeout_s=120.0) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture(scope="module")
def tuning(agent: LocalAgent, builders: Builders) -> Tune:
    def run(modules: list[Any], store: Store, *, boards: Any = None, **options: Any) -> Tuning:
        limits = {"budget_s": 600.0, "protocol": BRIEF, "runtime_library": runtime_library(TARGET.triple)} | options
        with pool_on(agent, store) as pool:
            return tune(pool, modules, store.schedules, boards or boards_of(TARGET), builders, **limits)

    return run
