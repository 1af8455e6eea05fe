"""A bundle onto a device: missing blobs only, golden-checked, blue/green, committed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tailorbird.bundle import Bundle
from tailorbird.device import Device
from tailorbird.errors import DeviceError
from tailorbird.flow.workspace import Note, silent
from tailorbird.types import Deployment
from tailorbird.units import byte_words

_LOAD_S = 10.0


@dataclass(frozen=True, slots=True)
class DeployResult:
    """What deploying did. sent_bytes is 0 when the device had every blob; unchanged: it served this very bundle."""

    device: str
    bundle: str
    size_bytes: int
    sent_bytes: int
    unchanged: bool
    push_s: float
    activate_s: float
    deployment: Deployment
    schema: str = "tailorbird.deploy/1"


def deploy(
    device: Device, bundle: Bundle, *, policy: str = "", slo_us: float | None = None, note: Note = silent
) -> DeployResult:
    """Push, stage, activate and commit a bundle; then set policy and deadline where they are given.

    Raises:
        BundleError: the bundle is damaged, or made for another device.
        DeviceError: the agent refuses it; what it served before goes on serving.
    """
    bundle.verify()
    model = bundle.manifest.model
    active = _active(device, model)
    unchanged = active is not None and active.active == bundle.sha256 and bool(active.rungs)
    started = time.monotonic()
    sent = 0
    if not unchanged:
        sent = device.push(bundle.blobs)
        note(f"{byte_words(sent)} sent")
    pushed = time.monotonic()
    if not unchanged:
        device.stage(bundle.manifest_bytes)
        note("staged, now loading and checking against torch's outputs")
        device.activate(bundle.sha256, commit=True)
    done = time.monotonic()
    if policy or slo_us is not None:
        device.set_policy(model, policy, slo_us)
    deployment = device.deployment(model)
    return DeployResult(
        device.name, bundle.sha256, bundle.size_bytes, sent, unchanged, pushed - started, done - pushed, deployment
    )


def _active(device: Device, model: str) -> Deployment | None:
    """The model's deployment, once its worker is loaded: an agent that just started still brings it back."""
    try:
        deployment = device.deployment(model)
        deadline = time.monotonic() + _LOAD_S
        while deployment.active and not deployment.rungs and time.monotonic() < deadline:
            time.sleep(0.05)
            deployment = device.deployment(model)
    except DeviceError as error:
        if error.reason == "MODEL_NOT_FOUND":
            return None
        raise
    return deployment
