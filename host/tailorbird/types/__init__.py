"""Frozen values that pass between stages. No dict crosses a module boundary; nothing here does I/O."""

from tailorbird.types.bundle import Artifact, BlobRef, Compatible, Manifest, ManifestRung, RuntimeBlob
from tailorbird.types.config import Config
from tailorbird.types.device import Cache, DeviceCard, Reading, Sensors
from tailorbird.types.ladder import Ladder, Rung
from tailorbird.types.measurement import (
    KERNEL,
    QUICK,
    STANDARD,
    Candidate,
    Measurement,
    ModuleKind,
    TimingProtocol,
    Verdict,
)
from tailorbird.types.tensor import DATATYPES, TensorSpec

__all__ = [
    "DATATYPES",
    "KERNEL",
    "QUICK",
    "STANDARD",
    "Artifact",
    "BlobRef",
    "Cache",
    "Candidate",
    "Compatible",
    "Config",
    "DeviceCard",
    "Ladder",
    "Manifest",
    "ManifestRung",
    "Measurement",
    "ModuleKind",
    "Reading",
    "Rung",
    "RuntimeBlob",
    "Sensors",
    "TensorSpec",
    "TimingProtocol",
    "Verdict",
]
