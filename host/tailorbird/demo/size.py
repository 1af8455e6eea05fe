"""Which size of its network the demo uses: on a fast processor the usual one is too quick for switching to matter."""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path

import torch

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.litert.backend import LitertBackend
from tailorbird.compile.litert.run import without_chatter
from tailorbird.demo.model import make
from tailorbird.flow.source import Source, source_sha256
from tailorbird.flow.workspace import Workspace

USUAL, WIDE = "tailorbird.demo.model:make", "tailorbird.demo.model:make_wide"
#: The largest rung has to take 1 ms as it is served, which is about a quarter more than in a loop.
_LEAST_S = 1.05e-3
_RUNS = 100


def fitting_source(workspace: Workspace) -> Source:
    """The usual network where this processor takes more than a millisecond for it, else the wide one.

    Timed once for each machine: a second run must meet the same network.
    """
    inputs = {"source": source_sha256(Source.parse(USUAL)), "machine": platform.node(), "processor": _processor()}

    def build(folder: Path) -> None:
        (folder / "size.json").write_text(json.dumps({"usual_s": _usual_s()}))

    found = json.loads((workspace.cache.run("demo-size", inputs, build).folder / "size.json").read_text())
    return source_for(found["usual_s"])


def source_for(usual_s: float) -> Source:
    """The network for a processor that takes so many seconds for the usual one."""
    return Source.parse(USUAL if usual_s >= _LEAST_S else WIDE)


def _usual_s() -> float:
    """CPU seconds LiteRT takes for one image on one thread."""
    from ai_edge_litert.interpreter import Interpreter

    with torch.random.fork_rng():
        network = capture(make().eval(), (torch.zeros(1, 1, 32, 32),))
    module = LitertBackend().build(network, CompileTarget(platform.machine(), "")).module
    times = []
    with without_chatter():
        interpreter = Interpreter(model_content=module, num_threads=1)
        interpreter.allocate_tensors()
        for _ in range(_RUNS):
            begin = time.thread_time()
            interpreter.invoke()
            times.append(time.thread_time() - begin)
    return statistics.median(times)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor()
