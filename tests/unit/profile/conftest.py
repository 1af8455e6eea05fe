"""An agent process and a network's space for the profile tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tailorbird.device import Device, LocalAgent


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A real agent on this machine."""
    agent = LocalAgent.start(tmp_path_factory.mktemp("agent"), name="here")
    try:
        with Device.connect(agent.control) as connected:
            yield connected
    finally:
        agent.stop()
