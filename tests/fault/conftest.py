"""An agent that serves, and must still serve the same after every test that does something to it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from agentkit.bundles import SERVING, X
from agentkit.process import Agent, output


@pytest.fixture(scope="module")
def shared_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        running.deploy(SERVING)
        yield running


@pytest.fixture
def agent(shared_agent: Agent) -> Iterator[Agent]:
    """An agent that serves SERVING, and is asked for it once more when the test is done with it."""
    yield shared_agent
    response = shared_agent.infer(X)
    assert response.model_version == f"{SERVING.sha256[:12]}/r2"
    assert np.allclose(output(response), SERVING.answer(X, 2), atol=0.1)
