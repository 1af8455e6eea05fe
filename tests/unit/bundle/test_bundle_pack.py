"""Packing, saving, loading and verifying bundles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tailorbird import wire
from tailorbird.bundle import (
    BuiltRung,
    Bundle,
    RuntimeLibrary,
    inspect,
    named_blobs,
    pack,
    pack_golden,
    unpack_golden,
)
from tailorbird.cache import sha256_of
from tailorbird.errors import BundleError, MissingFileError
from tailorbird.types import Config, DeviceCard, TensorSpec

CARD = DeviceCard(
    name="here",
    agent_version="0.1.0",
    machine="x86_64",
    triple="x86_64-linux-gnu",
    cpu_model="cpu",
    llvm_cpu="skylake-avx512",
    cores=2,
    isa_features=("avx2", "avx512f", "fma", "hypervisor", "sse4_2"),
    caches=(),
    memory_bytes=1 << 30,
    libc="glibc 2.36",
    kernel="6",
    runtimes=(("litert", "2.3.0"), ("tvm", "0.1.14.post1")),
)
INPUTS = [TensorSpec("input_0", "FP32", (1, 3, 8, 8))]
OUTPUTS = [TensorSpec("output_0", "FP32", (1, 10))]
GOLDEN_INPUTS = [{"input_0": np.full((1, 3, 8, 8), k, np.float32)} for k in range(4)]


def rung(name: str = "r0", cpu_us: float = 100.0, module: bytes = b"module", **changes) -> BuiltRung:
    golden = tuple({"output_0": np.full((1, 10), k, np.float32)} for k in range(4))
    made = BuiltRung(
        name, Config.of({"conv": 8}), "litert", module, accuracy=0.9, cpu_us=cpu_us, golden=golden, tolerance=1e-3
    )
    return replace(made, **changes)


def packed(*rungs: BuiltRung, **changes) -> Bundle:
    arguments = {"inputs": INPUTS, "outputs": OUTPUTS, "golden_inputs": GOLDEN_INPUTS, "card": CARD, "slo_us": 2500.0}
    return pack("net", rungs or (rung("r0"), rung("r1", 200.0, b"larger")), **{**arguments, **changes})


def test_the_bundle_is_named_by_its_manifest_and_every_blob_by_its_content():
    bundle = packed()
    assert bundle.sha256 == sha256_of(bundle.manifest_bytes)
    assert set(bundle.blobs) == set(named_blobs(bundle.manifest))
    assert all(sha256_of(content) == sha256 for sha256, content in bundle.blobs.items())
    bundle.verify()


def test_equal_input_gives_equal_bytes():
    assert packed().manifest_bytes == packed().manifest_bytes


def test_the_manifest_is_canonical_json():
    text = packed().manifest_bytes.decode()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert json.loads(text)["schema"] == "tailorbird.manifest/1"


def test_a_manifest_survives_the_wire():
    bundle = packed(rung(parameters=(b"weights",)), libraries=[RuntimeLibrary("tvm", "0.27", b"library")])
    assert wire.manifest_from_bytes(bundle.manifest_bytes) == bundle.manifest


def test_rungs_are_stored_fastest_first():
    bundle = packed(rung("slow", 300.0), rung("fast", 10.0), rung("middle", 20.0))
    assert [r.name for r in bundle.manifest.rungs] == ["fast", "middle", "slow"]


def test_equal_blobs_are_stored_once():
    bundle = packed(rung("a", 1.0, b"same"), rung("b", 2.0, b"same"))
    assert len(bundle.blobs) == 3  # the module, the golden inputs, the golden outputs
    assert bundle.size_bytes == sum(len(content) for content in bundle.blobs.values())


def test_native_code_requires_the_features_it_may_use_and_nothing_of_the_operating_system():
    assert packed(rung(runtime="tvm")).manifest.compatible.isa_features == ("avx2", "avx512f", "fma", "sse4_2")


def test_interpreted_rungs_require_no_cpu_features():
    assert packed().manifest.compatible.isa_features == ()


def test_an_unknown_cpu_requires_no_features():
    card = replace(CARD, llvm_cpu="")
    assert packed(rung(runtime="tvm"), card=card).manifest.compatible.isa_features == ()


def test_the_requirements_name_the_devices_triple_and_runtimes():
    compatible = packed(rung("a", 1.0), rung("b", 2.0, runtime="tvm")).manifest.compatible
    assert compatible.triple == "x86_64-linux-gnu"
    assert compatible.runtimes == (("litert", "2.3.0"), ("tvm", "0.1.14.post1"))


def test_golden_tensors_come_back_in_order():
    examples = [{"a": np.arange(k, k + 3, dtype=np.float32), "b.c": np.array([k])} for k in range(12)]
    for before, after in zip(examples, unpack_golden("input", pack_golden("input", examples)), strict=True):
        assert before.keys() == after.keys()
        assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("blob", [b"", b"garbage" * 10, pack_golden("output", [{"a": np.zeros(2)}])])
def test_a_blob_that_is_not_golden_is_refused(blob: bytes):
    with pytest.raises(BundleError, match="golden"):
        unpack_golden("input", blob)


@pytest.mark.parametrize(
    ("rungs", "changes", "why"),
    [
        ((rung("r0"), rung("r0", 5.0)), {}, "same name"),
        ((rung(golden=()),), {}, "golden outputs"),
        ((rung(cpu_us=0.0),), {}, "not measured"),
        ((rung(cpu_us=float("nan")),), {}, "not measured"),
        ((rung(tolerance=0.0),), {}, "tolerance"),
        ((rung(),), {"golden_inputs": GOLDEN_INPUTS[:3]}, "at least 4"),
        ((rung(module=b"\x7fELF\x02\x01"),), {}, "cut short"),
    ],
)
def test_an_inconsistent_ladder_is_refused(rungs, changes, why: str):
    with pytest.raises(BundleError) as caught:
        packed(*rungs, **changes)
    assert why in caught.value.why


def test_a_ladder_without_rungs_is_refused():
    with pytest.raises(BundleError, match="cannot be packed"):
        pack("net", [], inputs=INPUTS, outputs=OUTPUTS, golden_inputs=GOLDEN_INPUTS, card=CARD)


def test_a_saved_bundle_loads_equal(tmp_path: Path):
    bundle = packed()
    saved = bundle.save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b")
    assert (loaded.manifest, loaded.manifest_bytes) == (bundle.manifest, bundle.manifest_bytes)
    assert loaded.blobs == saved.blobs
    assert {sha: path.read_bytes() for sha, path in loaded.blobs.items()} == bundle.blobs
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["blobs", "manifest.json"]


def test_one_flipped_byte_is_found(tmp_path: Path):
    saved = packed().save(tmp_path)
    victim = next(path for path in saved.blobs.values() if isinstance(path, Path))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path)
    assert caught.value.reason == "BLOB_CORRUPT"
    packed().save(tmp_path)
    Bundle.load(tmp_path)


def test_a_missing_blob_is_found(tmp_path: Path):
    saved = packed().save(tmp_path)
    next(path for path in saved.blobs.values() if isinstance(path, Path)).unlink()
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path)
    assert caught.value.reason == "BLOB_MISSING"


def test_a_folder_without_a_bundle_is_explained(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schema":"tailorbird.manifest/9"}', b"\xff\xfe", b'{"x":1}'])
def test_bytes_that_are_no_manifest_are_refused(tmp_path: Path, data: bytes):
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path)
    assert caught.value.reason == "MANIFEST_INVALID"


def test_a_digest_that_would_leave_the_folder_is_refused(tmp_path: Path):
    bundle = packed()
    honest = bundle.manifest.golden_inputs.sha256
    (tmp_path / "manifest.json").write_bytes(bundle.manifest_bytes.replace(honest.encode(), b"../../etc/passwd"))
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(tmp_path)


def test_inspecting_shows_what_each_rung_is():
    summary = inspect(packed(rung("r0", 10.0, b"12345", parameters=(b"678",))))
    assert (summary.model, summary.slo_us, summary.triple) == ("net", 2500.0, "x86_64-linux-gnu")
    assert [(r.name, r.config, r.size_bytes, r.cpu_us) for r in summary.rungs] == [
        ("r0", Config.of({"conv": 8}), 8, 10.0)
    ]
