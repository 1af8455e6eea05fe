"""A real agent to tune on, as the tests of this folder use it."""

from __future__ import annotations

from collections.abc import Callable

from tailorbird.compile.base import CompileTarget
from tailorbird.db import Store
from tailorbird.device import DevicePool, Devices, LocalAgent
from tailorbird.tune.tuner import Tuning
from tailorbird.types import TimingProtocol

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")
BRIEF = TimingProtocol("kernel", min_runs=3, min_seconds=0.002, max_seconds=0.1)

#: tuning(modules, store, budget_s=..., boards=..., ...): tune.session.tune on the test's agent.
Tune = Callable[..., Tuning]


def pool_on(agent: LocalAgent, store: Store, **options: float) -> DevicePool:
    devices = Devices(store)
    devices.add("board", str(agent.control), ("board",))
    return devices.pool("board", lease_s=5.0, linger_s=0.1, **options)
