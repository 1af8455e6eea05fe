"""A device that would crash on the code is refused before anything is sent there."""

from __future__ import annotations

import dataclasses

import pytest

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.fit import code_features, require_fit
from tailorbird.errors import CompileError
from tailorbird.types import DeviceCard

AVX2 = ("avx", "avx2", "bmi1", "bmi2", "abm", "f16c", "fma", "movbe", "popcnt", "sse4_1", "sse4_2", "ssse3")
CARD = DeviceCard(
    name="board",
    agent_version="0.1.0",
    machine="x86_64",
    triple="x86_64-linux-gnu",
    cpu_model="",
    llvm_cpu="haswell",
    cores=2,
    isa_features=AVX2,
    caches=(),
    memory_bytes=1 << 30,
    libc="glibc 2.36",
    kernel="6.1",
    runtimes=(),
)


def target(cpu: str, triple: str = "x86_64-linux-gnu", threads: int = 1) -> CompileTarget:
    return CompileTarget(triple, cpu, threads)


@pytest.mark.parametrize("cpu", ["haswell", "x86-64-v3", "nehalem", ""])
def test_code_for_this_cpu_or_an_older_one_fits(cpu: str) -> None:
    require_fit(target(cpu), CARD)


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        (target("znver4"), "INCOMPATIBLE_FEATURES", "avx512f"),
        (target("cortex-a76", "aarch64-linux-gnu"), "INCOMPATIBLE_TRIPLE", "x86_64-linux-gnu"),
        (target("haswell", threads=4), "INCOMPATIBLE_CORES", "2 cores"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_is_missing(wanted: CompileTarget, reason: str, words: str) -> None:
    with pytest.raises(CompileError, match="board cannot run") as caught:
        require_fit(wanted, CARD)
    assert caught.value.reason == reason
    assert words in caught.value.why
    assert caught.value.fix


def test_a_cpu_nobody_knows_is_an_error_of_the_target() -> None:
    with pytest.raises(CompileError, match="pentium9000"):
        require_fit(target("pentium9000"), CARD)


def test_a_card_without_features_accuses_nobody() -> None:
    require_fit(target("znver4"), dataclasses.replace(CARD, isa_features=()))


def test_features_have_the_kernels_names() -> None:
    assert {"avx512_vnni", "avx512f", "sse4_2", "abm"} <= set(code_features(target("znver4")))
    assert "asimddp" in code_features(target("cortex-a76", "aarch64-linux-gnu"))
    assert "asimddp" not in code_features(target("cortex-a72", "aarch64-linux-gnu"))
