"""Probes: which ones a device gets, what their times mean, and that the compiler leaves their work in."""

from __future__ import annotations

import asyncio
import dataclasses
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.probes import ProbeUnavailableError, build, probes_for
from tailorbird.types import Cache, DeviceCard, Measurement
from tailorbird_agent.hardware import read_card
from tailorbird_agent.worker.measuring import MeasuringWorker
from tailorbird_agent.worker.plan import CandidatePlan, Protocol

CARD = DeviceCard(
    name="board",
    agent_version="1",
    machine="aarch64",
    triple="aarch64-linux-gnu",
    cpu_model="Cortex-A76",
    llvm_cpu="cortex-a76",
    cores=4,
    isa_features=("asimd", "asimddp", "asimdhp"),
    caches=(Cache(1, "Data", 64 << 10, 1), Cache(1, "Instruction", 64 << 10, 1), Cache(2, "Unified", 512 << 10, 1)),
    memory_bytes=4 << 30,
    libc="glibc 2.36",
    kernel="6.6",
    runtimes=(),
)
RUNTIME = Path(str(metadata.distribution("apache-tvm").locate_file("tvm/lib/libtvm_runtime.so")))


def here() -> DeviceCard:
    card = read_card("1")
    return dataclasses.replace(
        CARD,
        machine=card.machine,
        triple=card.triple,
        isa_features=card.isa_features,
        cores=card.cores,
        memory_bytes=card.memory_bytes,
        caches=tuple(Cache(c.level, c.kind, c.size_bytes, c.shared_by) for c in card.caches),
    )


def named(card: DeviceCard, name: str):
    return next(probe for probe in probes_for(card) if probe.name == name)


def test_a_device_gets_a_latency_for_each_of_its_data_caches_and_its_memory() -> None:
    latencies = [probe.name for probe in probes_for(CARD) if probe.unit == "ns"]
    assert latencies == ["latency-l1", "latency-l2", "latency-memory"]
    without = dataclasses.replace(CARD, caches=())
    assert [probe.name for probe in probes_for(without) if probe.unit == "ns"] == ["latency-memory"]


def test_arrays_leave_a_small_board_its_memory() -> None:
    small = dataclasses.replace(CARD, memory_bytes=512 << 20)
    assert named(small, "stream-triad").work / 24 * 8 <= 32 << 20


def test_times_become_figures() -> None:
    timed = Measurement("m", (100.0,), (100.0,))
    gemm, triad, chase = (named(CARD, name) for name in ("gemm-fp32", "stream-triad", "latency-l1"))
    assert gemm.value(timed, 1) == pytest.approx(2 * 96 * 128 * 192 * 4 / 100e3)
    assert gemm.value(timed, 2) == pytest.approx(2 * gemm.value(timed, 1))  # each thread does all of it
    assert triad.value(timed, 2) == pytest.approx(triad.value(timed, 1))  # the threads share it
    assert chase.value(timed, 1) == pytest.approx(100e3 / 65536)


def test_what_the_cpu_lacks_is_unavailable_and_says_so() -> None:
    plain = dataclasses.replace(here(), isa_features=())
    for name in ("gemm-fp16", "gemm-bf16", "gemm-int8"):
        with pytest.raises(ProbeUnavailableError, match="unavailable") as caught:
            build(named(plain, name), CompileTarget(plain.triple, ""))
        assert "no instructions for this type" in caught.value.why


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-gcc") is None, reason="there is no aarch64 cross compiler")
@pytest.mark.parametrize(
    ("name", "instruction"),
    [("gemm-fp32", "fmla"), ("gemm-fp16", "fmla"), ("gemm-int8", "sdot"), ("stream-triad", "fmla")],
)
def test_probes_are_built_for_the_board(tmp_path, name, instruction) -> None:
    candidate = build(named(CARD, name), CompileTarget.from_card(CARD))
    library = tmp_path / "probe.so"
    library.write_bytes(candidate.module)
    code = subprocess.run(["aarch64-linux-gnu-objdump", "-d", library], capture_output=True, text=True, check=True)
    assert instruction in code.stdout


def test_caches_get_slower_with_distance_and_arithmetic_is_that_of_a_cpu() -> None:
    if platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("the runtime library is for other machines")
    card = here()
    target = CompileTarget(card.triple, "", isa_features=card.isa_features)
    chosen = [probe for probe in probes_for(card) if probe.name in {"gemm-fp32", "latency-l1", "latency-l2"}]
    found = asyncio.run(timed([build(probe, target).module for probe in chosen]))
    values = {probe.name: probe.value(timing, 1) for probe, timing in zip(chosen, found, strict=True)}
    assert 0.5 < values["gemm-fp32"] < 2_000.0
    if "latency-l2" in values:
        assert 0.2 < values["latency-l1"] < values["latency-l2"] < 100.0


async def timed(modules: list[bytes]) -> list[Measurement]:
    """Through the measuring worker, as on a device."""
    import tempfile

    worker = MeasuringWorker()
    with tempfile.TemporaryDirectory() as folder:
        plans = []
        for number, module in enumerate(modules):
            path = Path(folder) / str(number)
            path.write_bytes(module)
            plans.append(CandidatePlan("tvm-kernel", path, (), str(number)))
        try:
            results = worker.measure(plans, Protocol("test", 10, 10.0, 1000.0), (("tvm", RUNTIME),), 60.0)
            timings = [timing async for _, timing in results]
        finally:
            await worker.stop()
    assert [timing.error for timing in timings] == [""] * len(modules)
    return [Measurement(timing.label, timing.wall_us, timing.cpu_us) for timing in timings]
