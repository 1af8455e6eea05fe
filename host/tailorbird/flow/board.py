"""The Python way from a SuperNet to a served model: search, deploy, call, ask why.

ladder = tb.search(net, accuracy=table, latency=model, slo="25ms")
served = tb.devices["rpi4-1"].deploy(ladder, inputs=images)
y = served(x)
served.why(last=5)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailorbird.config import parse_us
from tailorbird.db import Store
from tailorbird.device import Device, Devices, local
from tailorbird.errors import InputShapeError, UsageError
from tailorbird.flow.compile import build_ladder, usable_runtimes
from tailorbird.flow.deploy import deploy
from tailorbird.flow.workspace import Workspace
from tailorbird.search import Point, search
from tailorbird.supernet import SuperNet
from tailorbird.supernet.accuracy import AccuracyTable, confirm
from tailorbird.types import Config, Deployment, Event, Inference, Ladder, Rung

#: Real inputs checked on the device against torch before a bundle serves.
_GOLDEN = 6


@dataclass(frozen=True, slots=True, eq=False)
class NetLadder:
    """A ladder and the SuperNet its rungs are subnets of; front: the Pareto front it was chosen from."""

    net: SuperNet
    ladder: Ladder
    front: tuple[Point, ...]

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """Fastest first."""
        return self.ladder.rungs

    @property
    def slo_us(self) -> float | None:
        """The deadline the ladder is meant for, microseconds."""
        return self.ladder.slo_us

    def __iter__(self) -> Iterator[Rung]:
        return iter(self.rungs)

    def __len__(self) -> int:
        return len(self.rungs)


def search_net(
    net: SuperNet,
    accuracy: AccuracyTable | Callable[[Config], float],
    latency: Callable[[Config], float],
    *,
    validation: Iterable[Any] | None = None,
    recalibration: Iterable[Any] | None = None,
    slo: str | None = None,
    rungs: int = 6,
    least: int = 2,
    min_accuracy: float = 0.0,
    population: int = 32,
    generations: int = 24,
    seed: int = 0,
) -> NetLadder:
    """Search a Pareto ladder of a SuperNet.

    accuracy: an AccuracyTable, or a function from a Config to a fraction; latency: from a Config to microseconds; one
    that `tb.latency_model` made also measures the most promising subnets on its device, and the rungs are chosen by
    that. validation: held-out (inputs, labels): with it the most promising subnets are
    recalibrated (on `recalibration`, by default the same inputs) and evaluated, and the rungs chosen by what was
    measured; the rungs' accuracies are mere predictions without. slo: "25ms"; rungs: at most, least: at least.

    Raises:
        GateError: fewer than `least` rungs lie far enough apart.
        UsageError: a deadline without a unit, impossible numbers of rungs.
        DeviceError: the latency model's device went away or refused to measure.
    """

    def measured(candidates: Sequence[Config]) -> list[float]:
        assert validation is not None
        task = accuracy.task if isinstance(accuracy, AccuracyTable) else "classification"
        return [c.accuracy for c in confirm(net, candidates, validation, task=task, recalibration=recalibration)]

    found = search(
        net,
        accuracy.predict if isinstance(accuracy, AccuracyTable) else accuracy,
        latency,
        model=net.report.model,
        measure=getattr(latency, "measure", None),
        confirm=None if validation is None else measured,
        rungs=rungs,
        least=least,
        min_accuracy=min_accuracy,
        slo_us=None if slo is None else parse_us(slo),
        population=population,
        generations=generations,
        seed=seed,
    )
    return NetLadder(net, found.ladder, found.front)


class Served:
    """A deployed model: call it with one input, ask it why it switched."""

    def __init__(self, device: Device, deployment: Deployment) -> None:
        self.device = device
        self.model = deployment.model
        (spec,), _ = device.signature(deployment.model)
        self._spec = spec

    @property
    def deployment(self) -> Deployment:
        """Where the model stands now."""
        return self.device.deployment(self.model)

    def infer(self, x: torch.Tensor | NDArray[np.generic], *, rung: str = "", slo: str | None = None) -> Inference:
        """One request with everything the agent says of it. rung: "" leaves the choice to the policy.

        Raises:
            InputShapeError: x is not of the model's shape.
            DeviceError: the agent refused or failed.
        """
        value = np.asarray(x)
        if tuple(value.shape) != self._spec.shape:
            raise InputShapeError(
                f"{self.model} takes {self._spec.shape}, not {tuple(value.shape)}",
                why="a deployed rung has one input shape, batch included",
                fix="send one sample at a time, or build the SuperNet with that shape",
            )
        slo_us = None if slo is None else parse_us(slo)
        return self.device.infer(self.model, {self._spec.name: value}, version=rung, slo_us=slo_us)

    def __call__(self, x: torch.Tensor | NDArray[np.generic]) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The model's output for one input, from the rung the policy chose."""
        outputs = tuple(torch.from_numpy(np.array(value)) for value in self.infer(x).outputs.values())
        return outputs[0] if len(outputs) == 1 else outputs

    def why(self, last: int = 5) -> tuple[Event, ...]:
        """The last changes of rung and their reasons, oldest first."""
        return tuple(self.device.events(kinds=("switch",), model=self.model)[-last:])

    def rollback(self) -> Deployment:
        """Return to the bundle before."""
        return self.device.rollback(self.model)


class Board(Device):
    """A device that ladders can be deployed to."""

    def deploy(
        self,
        ladder: NetLadder,
        *,
        inputs: torch.Tensor,
        policy: str = "two-channel",
        tune: str = "0s",
    ) -> Served:
        """Build every rung for every runtime of this device, ship what is faster here, and serve it.

        inputs: at least 4 real inputs (N, ...) that every rung must answer like torch before it serves; tune: time for
        tuning TVM kernels on the device.

        Raises:
            InputShapeError: the inputs do not fit the model.
            CompileError: no runtime of the device can take a rung.
            DeviceError: the agent refused; what it served before goes on serving.
        """
        shape = tuple(ladder.net.example_inputs[0].shape)
        if len(ladder.net.example_inputs) != 1 or shape[0] != 1:
            raise UsageError(
                "only networks with one input and an example of batch 1 can be deployed from here",
                why=f"this one was built for {[tuple(x.shape) for x in ladder.net.example_inputs]}",
                fix="call elastic() with one example of batch size 1",
            )
        if len(inputs) < 4 or tuple(inputs.shape[1:]) != shape[1:]:
            raise InputShapeError(
                f"deploying needs at least 4 inputs of {shape[1:]}, not {tuple(inputs.shape)}",
                why="every rung is checked against torch on them before it serves",
                fix="pass a few samples of your validation data",
            )
        examples = [inputs[k : k + 1] for k in range(min(_GOLDEN, len(inputs)))]
        with Workspace.open() as workspace:
            runtimes = usable_runtimes(workspace, self)
            built = build_ladder(workspace, ladder.net, ladder.ladder, examples, self, runtimes, parse_us(tune) / 1e6)
        done = deploy(self, built.bundle, policy=policy, slo_us=built.ladder.slo_us)
        return Served(self, done.deployment)


class Boards(Devices):
    """`tb.devices`: the boards you own, by name; `local` is this machine."""

    def __init__(self, store: Store | None = None) -> None:
        super().__init__(store, kind=Board)

    def __getitem__(self, name: str) -> Board:
        """Connect to a board by name; "local" starts this machine's agent if need be."""
        return _board(super().__getitem__(name))


def local_board() -> Board:
    """The board this program runs on; its agent is started if none runs. Raises DeviceUnreachableError."""
    return _board(local(kind=Board))


def _board(device: Device) -> Board:
    assert isinstance(device, Board)
    return device
