"""A device without room for two bundles: the gap is announced, and what served comes back when the new one fails."""

from __future__ import annotations

import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from agentkit.bundles import X, make_bundle
from agentkit.process import TIMEOUT, Agent, output, refusal, retry_after_s

from tailorbird_agent.config import load_config
from tailorbird_agent.deploy.room import RESERVE_BYTES, has_room
from tailorbird_agent.errors import ConfigError


def test_a_sparing_swap_ends_the_old_worker_before_the_new_one_starts(tmp_path: Path) -> None:
    with Agent(tmp_path / "s", "--swap", "sparing") as agent:
        first, second = make_bundle(1), make_bundle(2)
        agent.deploy(first)
        assert agent.events("gap") == []  # nothing had to go
        agent.push(second)
        asked, stop = [], threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    asked.append(agent.infer(X).model_version[:12])
                except grpc.RpcError as error:
                    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                    assert refusal(error).reason == "REPLACING"
                    assert 0.0 < (retry_after_s(error) or 0.0) < 60.0
                    asked.append("gap")

        client = threading.Thread(target=ask)
        client.start()
        agent.deploy(second)
        stop.set()
        client.join(TIMEOUT)
        assert np.allclose(output(agent.infer(X)), second.answer(X, 2), atol=0.1)
        (gap,) = agent.events("gap")
        assert float(gap.details["expected_s"]) > 0.0
        order = [each for each, before in zip(asked, [None, *asked], strict=False) if each != before]
        # Whatever was seen of it came in this order; a request is never answered by two bundles' worth of confusion.
        assert order in [
            list(each)
            for each in (
                (first.sha256[:12],),
                (first.sha256[:12], "gap"),
                (first.sha256[:12], "gap", second.sha256[:12]),
                ("gap",),
                ("gap", second.sha256[:12]),
            )
        ]


def test_when_the_new_bundle_fails_in_the_gap_the_old_one_comes_back(tmp_path: Path) -> None:
    with Agent(tmp_path / "s", "--swap", "sparing") as agent:
        good = make_bundle(1)
        agent.deploy(good)
        since = agent.status().last_event_sequence
        with pytest.raises(grpc.RpcError) as caught:
            agent.deploy(make_bundle(2, golden_shift=5.0))
        assert refusal(caught.value).reason == "GOLDEN_MISMATCH"
        assert agent.wait_event("restored", since=since).details["bundle"] == good.sha256
        assert np.allclose(output(agent.infer_patiently(X)), good.answer(X, 2), atol=0.1)


def test_the_kernel_is_asked_only_where_nothing_was_chosen():
    assert has_room("available", 1 << 50, 0)
    assert not has_room("sparing", 0, 1 << 50)
    assert has_room("auto", 100, 100 + RESERVE_BYTES)
    assert not has_room("auto", 101, 100 + RESERVE_BYTES)
    assert has_room("auto", 1 << 50, None)


def test_another_word_for_a_swap_is_refused_with_those_there_are():
    with pytest.raises(ConfigError, match=r"swap is 'quick'\n.*auto, available, sparing"):
        load_config({"swap": "quick"}, environment={})
