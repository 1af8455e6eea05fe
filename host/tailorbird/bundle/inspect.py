"""What a bundle holds, for people."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.bundle.bundle import Bundle
from tailorbird.types import Config


@dataclass(frozen=True, slots=True)
class RungSummary:
    """One line of a bundle's table."""

    name: str
    config: Config
    runtime: str
    precision: str
    threads: int
    accuracy: float
    cpu_us: float
    size_bytes: int  # module and parameters
    timings: tuple[tuple[str, float], ...]  # of every runtime it was built for


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """Identity, requirements, size and rungs of a bundle."""

    sha256: str
    model: str
    triple: str
    libc: str
    isa_features: tuple[str, ...]
    runtimes: tuple[tuple[str, str], ...]
    slo_us: float | None
    size_bytes: int
    blobs: int
    rungs: tuple[RungSummary, ...]


def inspect(bundle: Bundle) -> BundleSummary:
    """Summarise a bundle without loading any of its modules."""
    manifest = bundle.manifest
    return BundleSummary(
        sha256=bundle.sha256,
        model=manifest.model,
        triple=manifest.compatible.triple,
        libc=manifest.compatible.libc,
        isa_features=manifest.compatible.isa_features,
        runtimes=manifest.compatible.runtimes,
        slo_us=manifest.slo_us,
        size_bytes=bundle.size_bytes,
        blobs=len(bundle.blobs),
        rungs=tuple(
            RungSummary(
                name=rung.name,
                config=Config.from_json(rung.config_json),
                runtime=rung.artifact.runtime,
                precision=rung.precision,
                threads=rung.threads,
                accuracy=rung.accuracy,
                cpu_us=rung.cpu_us,
                size_bytes=rung.artifact.blob.size_bytes + sum(p.size_bytes for p in rung.artifact.parameters),
                timings=rung.timings,
            )
            for rung in manifest.rungs
        ),
    )
