"""Ray as a pool of compile workers: a real cluster of this machine."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.errors import EnvironmentFaultError
from tailorbird.tune.assemble import build_rungs
from tailorbird.tune.gather import distinct_kernels
from tailorbird.tune.ray_builders import RayBuilders

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")
HAS_RAY = importlib.util.find_spec("ray") is not None


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_it_says_how_to_get_it() -> None:
    with pytest.raises(EnvironmentFaultError, match="Ray is not installed") as caught:
        RayBuilders(TARGET, workers=1)
    assert "tailorbird[ray]" in caught.value.fix


@pytest.fixture
def builders(monkeypatch: pytest.MonkeyPatch) -> Iterator[RayBuilders]:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray would write one into the user's home
    ray = importlib.import_module("ray")
    ray.init(num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
    with RayBuilders(TARGET, workers=1, timeout_s=120.0) as pool:
        yield pool
    assert ray.is_initialized(), "a cluster that was there before is left alone"
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # Ray's own
@pytest.mark.timeout(600)
@pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'tailorbird[ray]'")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64")
def test_actors_answer_as_worker_processes_do_and_a_lost_one_is_replaced(builders: RayBuilders) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).eval()
    module = prepare(import_network(capture(network, (torch.randn(1, 4, 8, 8),))), TARGET)
    kernels = distinct_kernels([module], builders)
    items = [{"kernel": str(kernel.path), "trace": "[[],[]]"} for kernel in kernels]
    output = builders.new_file(".so")
    reply = builders.call({"do": "library", "items": items, "output": str(output)})
    assert [item["symbol"] for item in reply["items"]] == [f"candidate_{number}" for number in range(len(items))]
    assert output.read_bytes().startswith(b"\x7fELF")

    (process,) = builders.process_ids()
    os.kill(process, signal.SIGKILL)
    assert "error" in builders.submit({"do": "library", "items": items, "output": str(output)}).result()
    assert "items" in builders.call({"do": "library", "items": items, "output": str(output)})

    (library, _) = build_rungs([module], (), builders)[0]
    assert library.startswith(b"\x7fELF")
    assert (
        "FileNotFoundError" in builders.submit({"do": "describe", "kernel": "/no/file", "name": "k"}).result()["error"]
    )
    assert Path(builders.folder).is_dir()
