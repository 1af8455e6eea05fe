"""MLPerf LoadGen asks while deadlines swing every 20 ms, and the policy with them, and bundles follow each other."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tailorbird.device import Device
from tailorbird.flow.loadgen import Load, Scenario, run_loadgen
from tests.bench.small_nets import Served, deploy
from tests.bench.swap import ladders
from tests.bench.swap.rungs import agent

MODEL = "loadgen"
SWING_S = 0.02
#: Of the server scenario: queries a second, and the deadline that LoadGen holds 99 % of the answers to.
_RATE_HZ, _SLO_US = 150.0, 100_000.0


def deadline_us(seconds: float) -> float:
    """What a query that is sent so long after the first one carries: only the smallest rung has a chance, or any."""
    return 1.0 if int(seconds / SWING_S) % 2 else 10e6


def run(scenario: Scenario, seconds: float) -> dict[str, Any]:
    """One scenario against a fresh agent: LoadGen's result, and how often rungs and bundles changed meanwhile."""
    with agent() as device, tempfile.TemporaryDirectory() as folder:
        served = ladders.bundles(device, MODEL, 2)
        for each in served:
            deploy(device, each)
        device.set_policy(MODEL, "slackfit")
        load = Load(scenario, 1, seconds, _RATE_HZ, _SLO_US, request_slo_us=deadline_us)
        since = device.status().last_event
        with _Deployments(device, served):
            found = run_loadgen(device, MODEL, load, Path(folder))
        changed = device.events(since, kinds=("switch", "activated"), model=MODEL)
    kinds = [event.kind for event in changed]
    return asdict(found) | {"switches": kinds.count("switch"), "deployments": kinds.count("activated")}


class _Deployments:
    """Deploys bundle after bundle, over a connection of its own, until it is left."""

    def __init__(self, device: Device, served: Sequence[Served]) -> None:
        self._address = str(device.address)
        self._served = served
        self._stop = threading.Event()
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="deployments")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error:
            raise self._error[0]

    def _run(self) -> None:
        try:
            with Device.connect(self._address) as device:
                for each in itertools.cycle(self._served):
                    if self._stop.is_set():
                        return
                    deploy(device, each)
        except BaseException as error:
            self._error.append(error)
