"""One caller: what a switch costs the next request, what a rung costs that is not in memory, and what rungs weigh."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tailorbird as tb
from tailorbird.device import Device, LocalAgent
from tailorbird.types import Config
from tests.bench.small_nets import Served, affine, classifier, deploy, digit_images, serve_ready
from tests.bench.swap import ladders

#: Channels of the second ladder: with so many the largest module takes 10 MB, and these are the choices that it has.
WIDTHS = (128, 264, 400, 528)
_STRIDE = 4  # so that the computation is small beside the parameters
#: Requests with the same deadline, of a caller that waits for each answer: the first has another rung than before.
PHASE = 8
_WARM_UP = 4 * PHASE
_TIGHT_US, _RELAXED_US = 1.0, 10e6
_MIB = 1 << 20


@contextmanager
def agent(*, model_memory_bytes: int = 0) -> Iterator[Device]:
    """A fresh agent; rungs may take so many bytes beyond those that have to be in memory, 0: as many as they like."""
    name = "TAILORBIRD_AGENT_MODEL_MEMORY_BYTES"
    before = os.environ.get(name)
    os.environ[name] = str(model_memory_bytes)
    try:
        with tempfile.TemporaryDirectory(prefix="tb") as folder:
            started = LocalAgent.start(Path(folder) / "s", name="bench")
            try:
                with Device.connect(started.control) as device:
                    yield device
            finally:
                started.stop()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _large(seed: int) -> list[nn.Module]:
    """Four subnets of one SuperNet, the largest with 10 MB of parameters."""
    net = tb.elastic(classifier(WIDTHS[-1], seed, _STRIDE), (torch.from_numpy(digit_images(2)),))
    names = [dimension.name for dimension in net.space.dimensions]
    return [net.extract(Config.of(dict.fromkeys(names, width))) for width in WIDTHS]


def _serve(device: Device, model: str, nets: Sequence[nn.Module]) -> Served:
    """A bundle of these networks, in the order of their size, profiled on the device and deployed."""
    images = digit_images(8)
    first = serve_ready(model, nets, images, device.card, cpu_us=range(1, len(nets) + 1))
    served = serve_ready(model, nets, images, device.card, cpu_us=ladders.profile(device, first))
    deploy(device, served)
    return served


class Caller:
    """Asks for one image after the other and checks the answers."""

    def __init__(self, device: Device, served: Served) -> None:
        self._device = device
        self._served = served
        self._name, self._output = served.built[0].inputs[0].name, served.built[0].outputs[0].name
        self._asked = 0

    def ask(self, rung: str = "", slo_us: float | None = None) -> tuple[str, float, float]:
        """The rung that answered, its on-CPU time in microseconds, and milliseconds from request to answer."""
        place = self._asked % len(self._served.images)
        self._asked += 1
        began = time.perf_counter()
        answer = self._device.infer(
            self._served.name, {self._name: self._served.images[place : place + 1]}, rung, slo_us
        )
        took_ms = 1e3 * (time.perf_counter() - began)
        expected = self._served.answers[answer.rung][place]
        if np.abs(answer.outputs[self._output][0] - expected).max() > self._served.tolerance:
            raise SystemExit(f"{answer.version} answered wrongly")
        return answer.rung, answer.cpu_us, took_ms


def switches(count: int) -> dict[str, Any]:
    """Deadlines that swing: the on-CPU time of the request that has another rung, beside those that follow it."""
    found = {}
    with agent() as device:
        for name, nets in (("small", ladders.subnets(1)), ("large", _large(1))):
            served = _serve(device, name, nets)
            device.set_policy(name, "slackfit")
            since = device.status().last_event
            found[name] = _swing(Caller(device, served), count) | {
                "actuation_us": [
                    float(us)
                    for event in device.events(since, kinds=("switch",), model=name)
                    if (us := event.detail("actuation_us")) is not None
                ]
            }
    return found


def _swing(caller: Caller, count: int) -> dict[str, Any]:
    for _ in range(_WARM_UP):
        caller.ask(slo_us=_RELAXED_US)
    penalty, first_us, later_us = [], [], []
    for turn in range(count):
        answers = [caller.ask(slo_us=_RELAXED_US if turn % 2 else _TIGHT_US) for _ in range(PHASE)]
        if len({rung for rung, _, _ in answers}) != 1:
            raise SystemExit("a deadline did not decide the rung")
        first, *later = (cpu_us for _, cpu_us, _ in answers)
        penalty.append(first / statistics.median(later))
        first_us.append(first)
        later_us.append(statistics.median(later))
    return {"penalty": penalty, "first_us": first_us, "later_us": later_us}


def cold(count: int) -> dict[str, Any]:
    """Rungs of 10 MB, of which two are never in memory: each is asked for by name while the other goes again."""
    nets = [_large(seed)[-1] for seed in range(1, 6)]
    with agent(model_memory_bytes=1) as device:
        served = _serve(device, "cold", nets)
        device.set_policy("cold", "static-large")
        caller = Caller(device, served)
        absent = [rung.name for rung in served.bundle.manifest.rungs[1:3]]
        warm_ms, cold_ms = [], []
        for turn in range(count):
            cold_ms.append(caller.ask(absent[turn % 2])[2])
            for _ in range(2):  # the answer to the first tells that the rung before it has gone
                took_ms = caller.ask()[2]
            warm_ms.append(took_ms)
        return {"cold_ms": cold_ms, "warm_ms": warm_ms, "module_bytes": len(served.built[1].module)}


def memory() -> dict[str, Any]:
    """PSS of a worker with next to no model, with the largest rung, and with each rung held and its neighbours."""
    nets = _large(1)
    with agent(model_memory_bytes=1) as device:
        base = _settled_mib(device, _serve(device, "memory", [affine((1, 1, 32, 32))]))
        largest = _settled_mib(device, _serve(device, "memory", nets[-1:]))
        served = _serve(device, "memory", nets)
        held = {}
        for rung in served.bundle.manifest.rungs:
            device.set_policy("memory", f"static:{rung.name}")
            held[rung.name] = _settled_mib(device, served)
        device.set_policy("memory", "two-channel")
    modules = {
        rung.name: len(built.module) / _MIB
        for rung, built in zip(served.bundle.manifest.rungs, served.built, strict=True)
    }
    return {"base_mib": base, "largest_mib": largest, "held_mib": held, "module_mib": modules}


def _settled_mib(device: Device, served: Served) -> float:
    """Proportional set size of the worker of the model "memory", after a few answers."""
    for _ in range(3):  # between two answers the worker loads and unloads what has to
        Caller(device, served).ask()
    rollup = Path(f"/proc/{device.deployment('memory').worker_pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) / 1024 for line in rollup.splitlines() if line.startswith("Pss:"))
