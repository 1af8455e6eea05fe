"""Packing a ladder of built rungs into a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tailorbird.bundle.bundle import Bundle
from tailorbird.bundle.features import needed_features
from tailorbird.bundle.golden import Tensors, pack_golden
from tailorbird.bundle.libc import glibc_needed
from tailorbird.cache import sha256_of
from tailorbird.errors import BundleError
from tailorbird.types import (
    Artifact,
    BlobRef,
    Compatible,
    Config,
    DeviceCard,
    Manifest,
    ManifestRung,
    RuntimeBlob,
    TensorSpec,
)
from tailorbird.wire import manifest_to_bytes

#: Real inputs an agent checks every rung on: fewer could agree by accident.
MIN_GOLDEN = 4
#: Oldest agent that knows manifest v1.
MIN_AGENT_VERSION = "0.1.0"
#: Memory a runtime needs beside the module: activations and its own state. Measured with small CNNs, rounded up.
_RUNTIME_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class BuiltRung:
    """A compiled and measured rung, ready to be packed.

    cpu_us: median on-CPU time per inference measured on the device; golden: torch's outputs for each golden input;
    tolerance: largest absolute difference the agent accepts; memory_bytes: None to estimate it from the sizes;
    timings: (runtime, cpu_us) of every build there was to choose from.
    """

    name: str
    config: Config
    runtime: str
    module: bytes
    accuracy: float
    cpu_us: float
    golden: tuple[Tensors, ...]
    tolerance: float
    parameters: tuple[bytes, ...] = ()
    precision: str = "fp32"
    threads: int = 1
    batch: int = 1
    memory_bytes: int | None = None
    timings: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RuntimeLibrary:
    """A library the agent loads before any module of its runtime: libtvm_runtime.so for the device's triple."""

    runtime: str
    version: str
    content: bytes


def pack(
    model: str,
    rungs: Sequence[BuiltRung],
    *,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    golden_inputs: Sequence[Tensors],
    card: DeviceCard,
    libraries: Sequence[RuntimeLibrary] = (),
    slo_us: float | None = None,
    created_by: str = "tailorbird",
) -> Bundle:
    """Pack rungs built for one device into a bundle. Rungs are stored fastest first; equal inputs give equal bytes.

    inputs, outputs: the model's signature, (N, C, H, W) as in torch. Raises BundleError for an inconsistent ladder.
    """
    ordered = sorted(rungs, key=lambda rung: rung.cpu_us)
    _check(model, ordered, golden_inputs)
    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> BlobRef:
        sha256 = sha256_of(content)
        blobs[sha256] = content
        return BlobRef(sha256, len(content))

    runtimes = sorted({rung.runtime for rung in ordered})
    native = [rung.module for rung in ordered] + [library.content for library in libraries]
    try:
        libc = glibc_needed(native)
    except ValueError as cause:
        raise BundleError("a module cannot be packed", why=str(cause), fix="build it again") from cause
    manifest = Manifest(
        model=model,
        compatible=Compatible(
            triple=card.triple,
            libc=libc,
            isa_features=needed_features(card, set(runtimes)),
            runtimes=tuple((runtime, card.runtime_version(runtime) or "") for runtime in runtimes),
        ),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        rungs=tuple(
            ManifestRung(
                name=rung.name,
                config_json=rung.config.to_json(),
                artifact=Artifact(rung.runtime, add(rung.module), tuple(add(blob) for blob in rung.parameters)),
                precision=rung.precision,
                threads=rung.threads,
                batch=rung.batch,
                accuracy=rung.accuracy,
                cpu_us=rung.cpu_us,
                golden=add(pack_golden("output", rung.golden)),
                tolerance=rung.tolerance,
                memory_bytes=_memory(rung),
                timings=rung.timings,
            )
            for rung in ordered
        ),
        golden_inputs=add(pack_golden("input", golden_inputs)),
        runtime_blobs=tuple(
            RuntimeBlob(library.runtime, library.version, add(library.content)) for library in libraries
        ),
        min_agent_version=MIN_AGENT_VERSION,
        slo_us=slo_us,
        created_by=created_by,
    )
    return Bundle(manifest, manifest_to_bytes(manifest), dict(blobs))


def _memory(rung: BuiltRung) -> int:
    if rung.memory_bytes is not None:
        return rung.memory_bytes
    return len(rung.module) + sum(len(blob) for blob in rung.parameters) + _RUNTIME_BYTES


def _check(model: str, rungs: Sequence[BuiltRung], golden_inputs: Sequence[Tensors]) -> None:
    why = ""
    if not model or "/" in model:
        why = f"{model!r} is no model name: it must not be empty and not contain a slash"
    elif not rungs:
        why = "it has no rungs"
    elif len({rung.name for rung in rungs}) < len(rungs):
        why = "two rungs have the same name"
    elif len(golden_inputs) < MIN_GOLDEN:
        why = f"it has {len(golden_inputs)} golden inputs, at least {MIN_GOLDEN} are needed"
    else:
        for rung in rungs:
            if len(rung.golden) != len(golden_inputs):
                why = f"rung {rung.name} has {len(rung.golden)} golden outputs for {len(golden_inputs)} inputs"
            elif not rung.cpu_us > 0:
                why = f"rung {rung.name} was not measured"
            elif not rung.tolerance > 0:
                why = f"rung {rung.name} has the tolerance {rung.tolerance}"
    if why:
        raise BundleError("the ladder cannot be packed", why=why, fix="search and compile again")
