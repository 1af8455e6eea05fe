"""A rung cross-built for another CPU: the host can build it, and this agent refuses it and keeps serving."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tailorbird.bundle import BuiltRung, pack
from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.device import Device
from tailorbird.device.local import LocalAgent
from tailorbird.errors import DeviceError
from tailorbird.types import Config
from tests.bench.small_nets import classifier, deploy, digit_images, serve_ready

BOARD = CompileTarget("aarch64-linux-gnu", "cortex-a72")


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    agent = LocalAgent.start(tmp_path)
    try:
        with Device.connect(tmp_path) as connected:
            yield connected
    finally:
        agent.stop()


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="needs g++-aarch64-linux-gnu")
@pytest.mark.parametrize("honest", [True, False], ids=["manifest says aarch64", "manifest lies"])
def test_an_aarch64_rung_is_refused_and_the_old_bundle_goes_on_serving(device: Device, honest: bool) -> None:
    images = digit_images(4)
    before = serve_ready("digits", [classifier(8, 1)], images, device.card)
    deploy(device, before)
    net = classifier(8, 2)
    built = backend("tvm").build(capture(net, (torch.from_numpy(images[:1]),)), BOARD)
    assert int.from_bytes(built.module[18:20], "little") == 183  # EM_AARCH64 in the ELF header
    card = (
        replace(device.card, triple=BOARD.triple, llvm_cpu=BOARD.llvm_cpu, isa_features=()) if honest else device.card
    )
    with torch.no_grad():
        golden = tuple({built.outputs[0].name: net(torch.from_numpy(image[None])).numpy()} for image in images)
    rung = BuiltRung("r0", Config(), "tvm", built.module, 0.9, 500.0, golden, 1e-3)
    inputs = tuple({built.inputs[0].name: image[None]} for image in images)
    bundle = pack("digits", [rung], inputs=built.inputs, outputs=built.outputs, golden_inputs=inputs, card=card)
    device.push(bundle.blobs)

    with pytest.raises(DeviceError) as refusal:
        device.stage(bundle.manifest_bytes)

    assert refusal.value.reason == "INCOMPATIBLE_TRIPLE"
    assert "aarch64" in str(refusal.value)
    assert "x86_64" in str(refusal.value)
    assert refusal.value.fix
    reply = device.infer("digits", {before.built[0].inputs[0].name: images[:1]})
    assert reply.version.startswith(before.bundle.sha256[:12])
    np.testing.assert_allclose(reply.outputs[before.built[0].outputs[0].name], before.answers["r0"][:1], atol=1e-3)
