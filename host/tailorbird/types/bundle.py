"""Bundle: a manifest and the content-addressed blobs it names. Its identity is the SHA-256 of the manifest's bytes."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.types.tensor import TensorSpec

MANIFEST_SCHEMA = "tailorbird.manifest/1"


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A blob by content: lower-case hex SHA-256 and its size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RuntimeBlob:
    """A runtime library the agent must have before a rung can load (libtvm_runtime.so)."""

    runtime: str
    version: str
    blob: BlobRef


@dataclass(frozen=True, slots=True)
class Compatible:
    """What a device must offer: LLVM triple, minimum libc ("glibc 2.31"), CPU features, (runtime, version) pairs."""

    triple: str
    libc: str
    isa_features: tuple[str, ...]
    runtimes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A built module: its bytes as a blob, the runtime that loads it, and blobs it needs beside it (parameters)."""

    runtime: str  # tvm | litert | reference
    blob: BlobRef
    parameters: tuple[BlobRef, ...] = ()


@dataclass(frozen=True, slots=True)
class ManifestRung:
    """A rung as the agent sees it. Its key is (config, runtime, precision, threads, batch).

    cpu_us: median on-CPU microseconds per inference measured on the device, the policy's profile;
    golden: a safetensors blob with the torch outputs `output.<k>.<name>` for golden input k;
    tolerance: largest absolute difference accepted by the golden check; timings: (runtime, cpu_us) of every build
    there was to choose from, measured in turns.
    """

    name: str
    config_json: str
    artifact: Artifact
    precision: str
    threads: int
    batch: int
    accuracy: float
    cpu_us: float
    golden: BlobRef
    tolerance: float
    memory_bytes: int
    timings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """Manifest v1.

    golden_inputs: a safetensors blob with `input.<k>.<name>`; signatures: empty until signing lands.
    """

    model: str
    compatible: Compatible
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rungs: tuple[ManifestRung, ...]  # smallest first
    golden_inputs: BlobRef
    runtime_blobs: tuple[RuntimeBlob, ...]
    min_agent_version: str
    slo_us: float | None
    created_by: str
    schema: str = MANIFEST_SCHEMA
    signatures: tuple[str, ...] = ()
