"""Real agent processes for the device tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailorbird.device import Device, LocalAgent


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    """One agent for all tests of a module."""
    started = LocalAgent.start(tmp_path_factory.mktemp("agent"), name="here")
    yield started
    started.stop()


@pytest.fixture
def device(agent: LocalAgent) -> Iterator[Device]:
    """A connection of its own for each test."""
    with Device.connect(agent.control) as connected:
        yield connected


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where an agent of this test alone keeps its state."""
    return tmp_path / "state"
