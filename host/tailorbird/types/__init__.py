"""Frozen values that pass between stages. No dict crosses a module boundary; nothing here does I/O."""

from tailorbird.types.bundle import Artifact, BlobRef, Compatible, Manifest, ManifestRung, RuntimeBlob
from tailorbird.types.config import Config
from tailorbird.types.context import Context
from tailorbird.types.deployment import (
    AgentStatus,
    BlobState,
    Deployment,
    DeploymentState,
    Event,
    Figure,
    LeaseGrant,
    Policy,
    RungStatus,
)
from tailorbird.types.device import Cache, DeviceCard, Reading, Sensors
from tailorbird.types.inference import Inference
from tailorbird.types.kernel import Kernel, KernelSpec, TensorProgram
from tailorbird.types.ladder import Ladder, Rung
from tailorbird.types.measurement import (
    KERNEL,
    MLPERF,
    P90_SAMPLES,
    P99_SAMPLES,
    QUICK,
    STANDARD,
    Candidate,
    GoldenAnswers,
    Measurement,
    ModuleKind,
    TimingProtocol,
    Verdict,
)
from tailorbird.types.tensor import DATATYPES, TensorSpec

__all__ = [
    "DATATYPES",
    "KERNEL",
    "MLPERF",
    "P90_SAMPLES",
    "P99_SAMPLES",
    "QUICK",
    "STANDARD",
    "AgentStatus",
    "Artifact",
    "BlobRef",
    "BlobState",
    "Cache",
    "Candidate",
    "Compatible",
    "Config",
    "Context",
    "Deployment",
    "DeploymentState",
    "DeviceCard",
    "Event",
    "Figure",
    "GoldenAnswers",
    "Inference",
    "Kernel",
    "KernelSpec",
    "Ladder",
    "LeaseGrant",
    "Manifest",
    "ManifestRung",
    "Measurement",
    "ModuleKind",
    "Policy",
    "Reading",
    "Rung",
    "RungStatus",
    "RuntimeBlob",
    "Sensors",
    "TensorProgram",
    "TensorSpec",
    "TimingProtocol",
    "Verdict",
]
