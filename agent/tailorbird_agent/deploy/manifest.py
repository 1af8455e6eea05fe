"""What a bundle says of itself, and whether it says it consistently."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tailorbird_agent.errors import BundleError
from tailorbird_agent.store.blobs import DIGEST
from tailorbird_agent.worker.plan import DATATYPES, TensorSpec

SCHEMA = "tailorbird.manifest/1"
RUNTIMES = ("tvm", "litert", "reference")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
MAX_RUNGS = 64
#: Inputs, and outputs, of a model; sizes of a tensor; characters of its name, and of what the device is compared with.
MAX_TENSORS, MAX_SIZES, MAX_TEXT_CHARACTERS = 64, 16, 256
#: All inputs of a request travel in one message, and so do all outputs: 16 MiB, less what goes around them.
MAX_TENSOR_BYTES = (16 << 20) - (64 << 10)
#: A request that takes longer on the CPU is not what anybody serves; the agent waits fifty times as long for an answer.
MAX_CPU_US = 600e6
MAX_MEMORY_BYTES = 1 << 40


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob by content."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RuntimeBlob:
    """A runtime library shipped with the bundle."""

    runtime: str
    version: str
    blob: BlobRef


@dataclass(frozen=True, slots=True)
class Compatible:
    """What the device must offer; runtimes are (name, exact version or "")."""

    triple: str
    libc: str
    isa_features: tuple[str, ...]
    runtimes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Rung:
    """One subnet, built. cpu_us: its profiled on-CPU time; tolerance: of the golden check."""

    name: str
    runtime: str
    module: BlobRef
    parameters: tuple[BlobRef, ...]
    threads: int
    accuracy: float
    cpu_us: float
    golden: BlobRef
    tolerance: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest v1. Its identity, the SHA-256 of its bytes, is not part of it."""

    schema: str
    model: str
    compatible: Compatible
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rungs: tuple[Rung, ...]
    golden_inputs: BlobRef
    runtime_blobs: tuple[RuntimeBlob, ...]
    min_agent_version: str
    slo_us: float | None

    def blobs(self) -> Iterator[BlobRef]:
        """Every blob the bundle needs."""
        yield self.golden_inputs
        for library in self.runtime_blobs:
            yield library.blob
        for rung in self.rungs:
            yield rung.module
            yield rung.golden
            yield from rung.parameters


def validate(manifest: Manifest) -> None:
    """Refuse a manifest that contradicts itself or the schema.

    Raises:
        BundleError: MANIFEST_INVALID, with every fault found.
    """
    faults = list(_faults(manifest))
    if faults:
        raise BundleError("MANIFEST_INVALID", "; ".join(faults[:8]) + ".")


def _faults(manifest: Manifest) -> Iterator[str]:
    if manifest.schema != SCHEMA:
        yield f'schema is "{manifest.schema[:80]}", this agent reads "{SCHEMA}"'
    if not NAME.fullmatch(manifest.model):
        yield f"model {manifest.model[:80]!r} is not a name"
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        if not specs:
            yield f"there is no {kind}"
        if len(specs) > MAX_TENSORS:
            yield f"there are {len(specs)} {kind}s, at most {MAX_TENSORS} are allowed"
        if len({spec.name for spec in specs}) != len(specs):
            yield f"{kind} names repeat"
        faults = [fault for spec in specs for fault in _spec_faults(kind, spec)]
        yield from faults
        size_bytes = 0 if faults else sum(spec.size_bytes for spec in specs)
        if size_bytes > MAX_TENSOR_BYTES:
            yield f"the {kind}s take {size_bytes} bytes, a message carries {MAX_TENSOR_BYTES}"
    if not 1 <= len(manifest.rungs) <= MAX_RUNGS:
        yield f"there are {len(manifest.rungs)} rungs, 1 to {MAX_RUNGS} are allowed"
    if len({rung.name for rung in manifest.rungs}) != len(manifest.rungs):
        yield "rung names repeat"
    for rung in manifest.rungs:
        yield from _rung_faults(rung)
    yield from _requirement_faults(manifest)
    for blob in manifest.blobs():
        if not DIGEST.fullmatch(blob.sha256) or blob.size_bytes < 0:
            yield f"{blob.sha256[:80]!r} of {blob.size_bytes} bytes is not a blob"
    if manifest.slo_us is not None and not (math.isfinite(manifest.slo_us) and manifest.slo_us > 0):
        yield f"slo_us is {manifest.slo_us}"


def _requirement_faults(manifest: Manifest) -> Iterator[str]:
    wanted = manifest.compatible
    runtimes = [*wanted.runtimes, *((each.runtime, each.version) for each in manifest.runtime_blobs)]
    texts = [manifest.min_agent_version, wanted.triple, wanted.libc, *wanted.isa_features]
    for text in (*texts, *(text for runtime in runtimes for text in runtime)):
        if len(text) > MAX_TEXT_CHARACTERS:
            yield f"a requirement has {len(text)} characters: {text[:40]!r}"


def _spec_faults(kind: str, spec: TensorSpec) -> Iterator[str]:
    if not 0 < len(spec.name) <= MAX_TEXT_CHARACTERS or not spec.name.isprintable():
        yield f"{spec.name[:40]!r} cannot name an {kind}"
    if spec.datatype not in DATATYPES:
        yield f'{kind} "{spec.name[:40]}" has datatype "{spec.datatype[:40]}"'
    if len(spec.shape) > MAX_SIZES or any(size < 1 for size in spec.shape):
        yield f'{kind} "{spec.name[:40]}" has shape {list(spec.shape[:MAX_SIZES])}'


def _rung_faults(rung: Rung) -> Iterator[str]:
    if not NAME.fullmatch(rung.name):
        yield f"rung {rung.name[:80]!r} is not a name"
    if rung.runtime not in RUNTIMES:
        yield f'rung "{rung.name[:40]}" names runtime "{rung.runtime[:40]}", there are {", ".join(RUNTIMES)}'
    if not 0 <= rung.threads <= 1024:
        yield f'rung "{rung.name[:40]}" wants {rung.threads} threads'
    if not 0 < rung.cpu_us <= MAX_CPU_US:
        yield f'rung "{rung.name[:40]}" has cpu_us {rung.cpu_us}'
    if not 0 <= rung.memory_bytes <= MAX_MEMORY_BYTES:
        yield f'rung "{rung.name[:40]}" has memory_bytes {rung.memory_bytes}'
    if not 0 <= rung.accuracy <= 1:
        yield f'rung "{rung.name[:40]}" has accuracy {rung.accuracy}'
    if not (math.isfinite(rung.tolerance) and rung.tolerance >= 0):
        yield f'rung "{rung.name[:40]}" has tolerance {rung.tolerance}'
