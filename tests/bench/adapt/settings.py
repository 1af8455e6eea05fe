"""What a suite runs: ladders, kinds of weather, numbers of slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Network = Literal["resnet20", "mobilenetv2"]
Runtime = Literal["litert", "tvm"]

#: Deadlines in on-CPU times of the largest rung: tight, fair and loose. The live pass has the fair one.
DEADLINES = (1.5, 2.4, 3.5)
LIVE_DEADLINE = 2.4
LIVE_POLICIES = ("two-channel", "alert", "alert-hysteresis", "threshold", "slackfit", "static-large")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of weather. stationary: its parts last for less than a second; slow: they last for many seconds."""

    name: str
    stationary: bool = False
    slow: bool = False


WEATHER = (
    Kind("natural", stationary=True),
    Kind("cpu-steps", slow=True),
    Kind("bursts", stationary=True),
    Kind("memory-stream"),
    Kind("thermal-ramp", slow=True),
    Kind("quota", slow=True),
    Kind("memory-pressure", stationary=True),
    Kind("flip", stationary=True),
    Kind("request-bursts"),
)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The rungs of a network on a runtime with so many threads."""

    network: Network
    runtime: Runtime
    threads: int

    @property
    def name(self) -> str:
        return f"{self.network}-{self.runtime}-{self.threads}t"


@dataclass(frozen=True, slots=True)
class Suite:
    """slots: of each pass, each with one request for every policy of the live pass."""

    ladders: tuple[Ladder, ...]
    slots: int


_ALL = tuple(
    Ladder(network, runtime, threads)
    for network in ("resnet20", "mobilenetv2")
    for runtime in ("litert", "tvm")
    for threads in (1, 2)
)
SUITES = {"quick": Suite(_ALL[:1], 160), "full": Suite(_ALL, 1000)}
