"""What ships was compared with torch on the device: a build that answers otherwise is none, whatever its speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.device import Device, LocalAgent
from tailorbird.errors import CompileError
from tailorbird.flow.contest import BuildRecord, accepted, answers_of, choose, contest, golden_of
from tailorbird.flow.tune import Subject
from tailorbird.types import Config, GoldenAnswers, Rung


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    agent = LocalAgent.start(tmp_path_factory.mktemp("agent"), name="board")
    try:
        with Device.connect(str(agent.control)) as connected:
            yield connected
    finally:
        agent.stop()


def subject(seed: int, name: str = "r0", accuracy: float = 0.5) -> Subject:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()
    rung = Rung(name, Config(), accuracy, 100.0, None, 1, 1)
    return Subject(rung, net, capture(net, (torch.zeros(1, 3, 12, 12),)))


def examples() -> list[torch.Tensor]:
    torch.manual_seed(9)
    return [torch.randn(1, 3, 12, 12) for _ in range(4)]


def golden(of: Subject) -> GoldenAnswers:
    return golden_of(of, examples(), answers_of(of, examples()))


def build(runtime: str, of: Subject, target: CompileTarget) -> Built:
    return backend(runtime).build(of.captured, target)


def compete(device: Device, target: CompileTarget, of: Subject, builds: list[Built]) -> tuple[BuildRecord, ...]:
    with device.lease() as lease:
        return contest(device, lease, {of.rung.name: builds}, {of.rung.name: golden(of)}, target)[of.rung.name]


def test_every_runtime_is_compared_with_torch_on_the_device(device: Device) -> None:
    target, right = CompileTarget.from_card(device.card), subject(1)
    records = compete(device, target, right, [build(runtime, right, target) for runtime in ("litert", "tvm")])
    for record in records:
        assert record.error == ""
        assert record.max_error is not None
        assert record.tolerance is not None
        assert 0.0 <= record.max_error < record.tolerance <= accepted(answers_of(right, examples()))


@pytest.mark.parametrize("runtime", ["litert", "tvm"])
def test_a_build_that_answers_otherwise_is_refused_and_the_other_runtime_ships(device: Device, runtime: str) -> None:
    target, right = CompileTarget.from_card(device.card), subject(1)
    other = {"litert": "tvm", "tvm": "litert"}[runtime]
    wrong = build(runtime, subject(2), target)
    records = compete(device, target, right, [wrong, build(other, right, target)])
    assert records[0].error.startswith("wrong result: output_0 of example 0 is off by ")
    assert (records[0].cpu_us, records[0].wall_us) == (None, None)
    assert records[1].error == ""
    better = subject(1, "r1", 0.6)
    slower = dataclasses.replace(records[1], cpu_us=2.0 * (records[1].cpu_us or 0.0))
    _, kept, _ = choose([right.rung, better.rung], {"r0": records, "r1": [slower]})
    assert kept == [(right.rung, other), (better.rung, other)]


def test_a_small_error_in_one_weight_is_a_wrong_result_as_well(device: Device) -> None:
    target, right = CompileTarget.from_card(device.card), subject(1)
    off = subject(1)
    with torch.no_grad():
        off.subnet[3].bias += 3.0 * accepted(answers_of(right, examples()))  # type: ignore[index, operator, union-attr]
    off = dataclasses.replace(off, captured=capture(off.subnet, (examples()[0],)))
    (record,) = compete(device, target, right, [build("tvm", off, target)])
    assert record.error.startswith("wrong result: ")


def test_outputs_that_are_no_numbers_or_of_another_shape_are_wrong(device: Device) -> None:
    target, right = CompileTarget.from_card(device.card), subject(1)
    with torch.no_grad():
        (nan := subject(1)).subnet[3].bias.fill_(float("nan"))  # type: ignore[index, operator, union-attr]
    nan = dataclasses.replace(nan, captured=capture(nan.subnet, (examples()[0],)))
    torch.manual_seed(1)
    wide = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    shaped = dataclasses.replace(right, captured=capture(wide, (examples()[0],)))
    first, second = compete(device, target, right, [build("litert", nan, target), build("tvm", shaped, target)])
    assert first.error.startswith("wrong result: output_0 of example 0 is off by nan")
    assert second.error.startswith("wrong result: it gives ")


def test_a_rung_without_a_right_build_cannot_be_chosen(device: Device) -> None:
    target, right = CompileTarget.from_card(device.card), subject(1)
    records = compete(device, target, right, [build("litert", subject(2), target)])
    with pytest.raises(CompileError, match="litert: wrong result"):
        choose([right.rung], {"r0": records})
