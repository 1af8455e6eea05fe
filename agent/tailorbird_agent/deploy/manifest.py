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
MAX_ELEMENTS = 1 << 28


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
        yield f'schema is "{manifest.schema}", this agent reads "{SCHEMA}"'
    if not NAME.fullmatch(manifest.model):
        yield f"model {manifest.model[:80]!r} is not a name"
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        if not specs:
            yield f"there is no {kind}"
        if len({spec.name for spec in specs}) != len(specs):
            yield f"{kind} names repeat"
        for spec in specs:
            yield from _spec_faults(kind, spec)
    if not 1 <= len(manifest.rungs) <= MAX_RUNGS:
        yield f"there are {len(manifest.rungs)} rungs, 1 to {MAX_RUNGS} are allowed"
    if len({rung.name for rung in manifest.rungs}) != len(manifest.rungs):
        yield "rung names repeat"
    for rung in manifest.rungs:
        yield from _rung_faults(rung)
    for blob in manifest.blobs():
        if not DIGEST.fullmatch(blob.sha256) or blob.size_bytes < 0:
            yield f"{blob.sha256[:80]!r} of {blob.size_bytes} bytes is not a blob"
    if manifest.slo_us is not None and not _positive(manifest.slo_us):
        yield f"slo_us is {manifest.slo_us}"


def _spec_faults(kind: str, spec: TensorSpec) -> Iterator[str]:
    if not spec.name:
        yield f"an {kind} has no name"
    if spec.datatype not in DATATYPES:
        yield f'{kind} "{spec.name}" has datatype "{spec.datatype}"'
    if any(size < 1 for size in spec.shape) or math.prod(spec.shape) > MAX_ELEMENTS:
        yield f'{kind} "{spec.name}" has shape {list(spec.shape)}'


def _rung_faults(rung: Rung) -> Iterator[str]:
    if not NAME.fullmatch(rung.name):
        yield f"rung {rung.name[:80]!r} is not a name"
    if rung.runtime not in RUNTIMES:
        yield f'rung "{rung.name}" names runtime "{rung.runtime}", there are {", ".join(RUNTIMES)}'
    if not 0 <= rung.threads <= 1024:
        yield f'rung "{rung.name}" wants {rung.threads} threads'
    if not _positive(rung.cpu_us):
        yield f'rung "{rung.name}" has cpu_us {rung.cpu_us}'
    if not 0 <= rung.accuracy <= 1:
        yield f'rung "{rung.name}" has accuracy {rung.accuracy}'
    if not (math.isfinite(rung.tolerance) and rung.tolerance >= 0):
        yield f'rung "{rung.name}" has tolerance {rung.tolerance}'


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0
