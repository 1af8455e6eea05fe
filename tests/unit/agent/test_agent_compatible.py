from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from agentkit.bundles import make_bundle

from tailorbird_agent import wire
from tailorbird_agent.deploy.compatible import check_compatible, check_modules, version
from tailorbird_agent.deploy.manifest import BlobRef, Manifest, Rung, RuntimeBlob, validate
from tailorbird_agent.errors import BundleError

BLOB = BlobRef("0" * 64, 1)


@dataclass(frozen=True)
class Board:
    triple: str = "aarch64-linux-gnu"
    libc: str = "glibc 2.31"
    isa_features: tuple[str, ...] = ("asimd", "fp")
    runtimes: tuple[tuple[str, str], ...] = (("litert", "2.3.0"), ("reference", "0.1.0"))
    agent_version: str = "0.10.2"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    plain = wire.manifest_from_json(make_bundle().manifest)
    return replace(plain, compatible=replace(plain.compatible, triple="aarch64-linux-gnu"))


def refused(manifest: Manifest, board: Board = Board()) -> str:
    with pytest.raises(BundleError) as caught:
        check_compatible(manifest, board)
    return caught.value.reason


def asking(manifest: Manifest, **wanted: object) -> Manifest:
    return replace(manifest, compatible=replace(manifest.compatible, **wanted))


def running(manifest: Manifest, runtime: str) -> Manifest:
    rungs: tuple[Rung, ...] = tuple(replace(rung, runtime=runtime) for rung in manifest.rungs)
    return replace(manifest, rungs=rungs)


@pytest.mark.parametrize("triple", ["aarch64-linux-gnu", "aarch64-unknown-linux-gnu", "arm64-pc-linux-gnu", ""])
def test_the_vendor_of_a_triple_does_not_matter(manifest: Manifest, triple: str) -> None:
    check_compatible(asking(manifest, triple=triple), Board())


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu", "aarch64-linux-musl", "armv7l-linux-gnueabihf"])
def test_another_triple_is_refused(manifest: Manifest, triple: str) -> None:
    assert refused(asking(manifest, triple=triple)) == "INCOMPATIBLE_TRIPLE"


@pytest.mark.parametrize(
    ("libc", "fits"), [("glibc 2.31", True), ("glibc 2.4", True), ("glibc 2.36", False), ("musl 1.2", False)]
)
def test_the_c_library_must_be_as_new_as_asked(manifest: Manifest, libc: str, fits: bool) -> None:
    if fits:
        check_compatible(asking(manifest, libc=libc), Board())
    else:
        assert refused(asking(manifest, libc=libc)) == "INCOMPATIBLE_LIBC"


def test_a_missing_cpu_feature_is_named(manifest: Manifest) -> None:
    with pytest.raises(BundleError, match="asimddp") as caught:
        check_compatible(asking(manifest, isa_features=("fp", "asimddp")), Board())
    assert caught.value.reason == "INCOMPATIBLE_ISA"


def test_a_newer_agent_may_be_asked_for(manifest: Manifest) -> None:
    check_compatible(replace(manifest, min_agent_version="0.9.9"), Board())
    assert refused(replace(manifest, min_agent_version="0.11.0")) == "AGENT_TOO_OLD"


def test_a_runtime_must_be_installed_or_supplied(manifest: Manifest) -> None:
    check_compatible(asking(manifest, runtimes=(("litert", ""),)), Board())
    assert refused(asking(manifest, runtimes=(("litert", "2.4.0"),))) == "RUNTIME_MISSING"
    assert refused(asking(manifest, runtimes=(("tvm", "0.27.0"),))) == "RUNTIME_MISSING"
    shipped = replace(
        asking(manifest, runtimes=(("tvm", "0.27.0"),)), runtime_blobs=(RuntimeBlob("tvm", "0.27.0", BLOB),)
    )
    check_compatible(shipped, Board())


def test_a_shipped_library_does_not_replace_its_plug_in(manifest: Manifest) -> None:
    shipped = replace(running(manifest, "tvm"), runtime_blobs=(RuntimeBlob("tvm", "0.27.0", BLOB),))
    assert refused(shipped) == "RUNTIME_MISSING"


def elf(machine: int, *, big: bool = False) -> bytes:
    return b"\x7fELF\x02" + (b"\x02" if big else b"\x01") + bytes(10) + struct.pack(">HH" if big else "<HH", 3, machine)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (elf(62), "INCOMPATIBLE_TRIPLE"),
        (elf(183, big=True)[:6] + elf(62, big=True)[6:], "INCOMPATIBLE_TRIPLE"),
        (elf(9999), "INCOMPATIBLE_TRIPLE"),
        (elf(183)[:12], "MODULE_INVALID"),
    ],
)
def test_a_library_for_another_machine_is_refused_by_its_header(tmp_path: Path, header: bytes, reason: str) -> None:
    path = tmp_path / "module"
    path.write_bytes(header)
    with pytest.raises(BundleError) as caught:
        check_modules([("rung r0", path)], Board())
    assert caught.value.reason == reason


@pytest.mark.parametrize("header", [elf(183) + bytes(40), b"TFL3", b""])
def test_our_libraries_and_other_files_pass(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "module"
    path.write_bytes(header)
    check_modules([("rung r0", path)], Board())


def test_versions_compare_by_number() -> None:
    assert version("0.9") < version("0.10") < version("0.10.0.post1")


def test_a_good_manifest_has_no_fault(manifest: Manifest) -> None:
    validate(manifest)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schema": "tailorbird.manifest/9"}, "schema"),
        ({"model": "../etc"}, "not a name"),
        ({"model": ""}, "not a name"),
        ({"inputs": ()}, "no input"),
        ({"outputs": ()}, "no output"),
        ({"rungs": ()}, "0 rungs"),
        ({"slo_us": float("nan")}, "slo_us"),
        ({"golden_inputs": BlobRef("zz", 1)}, "not a blob"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    manifest: Manifest, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(BundleError, match=fault) as caught:
        validate(replace(manifest, **change))
    assert caught.value.reason == "MANIFEST_INVALID"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"name": "a/b"}, "not a name"),
        ({"runtime": "onnx"}, "runtime"),
        ({"cpu_us": 0.0}, "cpu_us"),
        ({"accuracy": 70.0}, "accuracy"),
        ({"tolerance": float("inf")}, "tolerance"),
        ({"threads": -1}, "threads"),
    ],
)
def test_a_rung_that_makes_no_sense_is_refused(manifest: Manifest, change: dict[str, object], fault: str) -> None:
    with pytest.raises(BundleError, match=fault):
        validate(replace(manifest, rungs=(replace(manifest.rungs[0], **change),)))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"modle": "x"}', b"\xff\xfe", b'{"rungs": 5}', b"[" * 5000])
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        validate(wire.manifest_from_json(data))
    assert caught.value.reason == "MANIFEST_INVALID"
