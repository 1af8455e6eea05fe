"""Fusion rules from times with a known law."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.profile import Fusions, fusion_probes
from tailorbird.profile.fusion import Pair, adjacent, kind, unfused
from tailorbird.types import KernelSpec

CONV = KernelSpec("conv2d", 16, 16, 16, 16, (3, 3), (1, 1), (1, 1), "relu")
SIZES = (8, 16, 32, 64)


def conv(ins: int, outs: int) -> KernelSpec:
    return dataclasses.replace(CONV, in_channels=ins, out_channels=outs)


def add(channels: int) -> KernelSpec:
    return KernelSpec("add", channels, channels, 16, 16)


NETWORKS = [unfused((conv(a, b), add(b), conv(b, a))) for a in SIZES for b in SIZES]


def core_us(spec: KernelSpec) -> float:
    return spec.macs / 4e3 + spec.activation_bytes / 4e4


class Machine:
    """A runtime with a cost per call and byte, that runs rectifiers within what comes before."""

    def __init__(self, call_us: float, copy: float) -> None:
        self.call_us, self.copy = call_us, copy

    def alone(self, spec: KernelSpec) -> float:
        return core_us(spec) + self.call_us + self.copy * spec.activation_bytes

    def pair(self, pair: Pair) -> float:
        first, second = pair
        absorbed = core_us(second) if second.op == "activation" else 0.0
        joint = self.call_us + 2 * self.copy * 4 * first.out_channels * first.height * first.width
        return self.alone(first) + self.alone(second) - joint - absorbed


@given(st.floats(0, 5), st.floats(0, 1e-4))
def test_rules_and_the_cost_of_a_module_are_found_whatever_a_call_costs(call_us: float, copy: float):
    machine = Machine(call_us, copy)
    probes = fusion_probes(NETWORKS, per_kind=4)
    times = {spec: machine.alone(spec) for pair in probes for spec in pair}
    found = Fusions.of(times, {pair: machine.pair(pair) for pair in probes})
    assert {name for name, rule in found.rules.items() if rule.fused} == {("conv2d", "relu")}
    assert found.call_us == pytest.approx(call_us, abs=0.05)
    assert found.alone_us(CONV) == pytest.approx(call_us + copy * CONV.activation_bytes, abs=0.1)
    assert found.fuses(*unfused([CONV]))
    assert not found.fuses(add(8), conv(8, 8))


def test_probes_are_few_and_span_the_work_of_every_kind():
    probes = fusion_probes(NETWORKS, per_kind=3)
    kinds = {kind(pair) for operations in NETWORKS for pair in adjacent(operations)}
    assert {kind(pair) for pair in probes} == kinds
    assert len(probes) <= 3 * len(kinds)
    work = [sum(spec.macs for spec in pair) for pair in probes if kind(pair) == ("conv2d", "relu")]
    every = [
        sum(s.macs for s in p) for operations in NETWORKS for p in adjacent(operations) if kind(p) == ("conv2d", "relu")
    ]
    assert (min(work), max(work)) == (min(every), max(every))


def test_operations_that_do_not_feed_each_other_are_no_pair():
    assert adjacent((conv(8, 16), conv(32, 8))) == ()


def test_taking_kernels_apart_keeps_their_work():
    operations = unfused([CONV, add(16)])
    assert [spec.op for spec in operations] == ["conv2d", "activation", "add"]
    assert operations[0].macs == CONV.macs
    assert not any(spec.activation for spec in operations if spec.op != "activation")


def test_pairs_without_their_operations_tell_nothing():
    with pytest.raises(ValueError, match="no pair"):
        Fusions.of({}, {(conv(8, 8), add(8)): 3.0})
