"""Bundles of reference modules whose answers name the bundle and the rung they came from."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import json_format

from tailorbird_agent import __version__
from tailorbird_agent.hardware import read_card
from tailorbird_agent.runtimes import tensorfile
from tailorbird_agent.runtimes.reference import Step, save
from tailorbird_api.types.v1 import bundle_pb2

CLASSES, GOLDEN = 4, 4
BUNDLE_GAP, RUNG_GAP, TOLERANCE = 10_000.0, 100.0, 0.5


@dataclass
class Bundle:
    """A manifest and its blobs; `answer` is what a rung must say."""

    number: int
    shape: tuple[int, ...]
    manifest: bytes
    blobs: dict[str, bytes] = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.manifest).hexdigest()

    def answer(self, x: np.ndarray, rung: int) -> np.ndarray:
        return expected(x, self.number, rung)

    def edited(self, **changes: Any) -> Bundle:
        """The bundle with top-level manifest fields replaced."""
        return Bundle(self.number, self.shape, canonical(json.loads(self.manifest) | changes), dict(self.blobs))


def sample(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def weight(shape: tuple[int, ...]) -> np.ndarray:
    features = math.prod(shape[1:])
    return np.full((features, CLASSES), 1.0 / math.sqrt(features), np.float32)


def expected(x: np.ndarray, number: int, rung: int) -> np.ndarray:
    return x.reshape(x.shape[0], -1) @ weight(x.shape) + np.float32(number * BUNDLE_GAP + rung * RUNG_GAP)


def canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def make_bundle(
    number: int = 0,
    *,
    model: str = "toy",
    rungs: int = 3,
    shape: tuple[int, ...] = (1, 16),
    golden_shift: float = 0.0,
    slo_us: float | None = None,
) -> Bundle:
    """A bundle for this machine. golden_shift: how far its golden outputs are from the truth."""
    blobs: dict[str, bytes] = {}
    inputs = [sample(shape, seed) for seed in range(GOLDEN)]
    message = bundle_pb2.Manifest(
        schema="tailorbird.manifest/1",
        model=model,
        compatible=bundle_pb2.Compatible(
            triple=read_card(__version__).triple, runtimes=[bundle_pb2.RuntimeRequirement(runtime="reference")]
        ),
        golden_inputs=_tensors(blobs, {f"input.{k}.x": x for k, x in enumerate(inputs)}),
        min_agent_version="0.1.0",
        created_by=f"agentkit {number}",
        slo_us=slo_us,
    )
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    message.outputs.add(name="y", datatype="FP32", shape=(shape[0], CLASSES))
    for rung in range(rungs):
        outputs = {f"output.{k}.y": expected(x, number, rung) + golden_shift for k, x in enumerate(inputs)}
        message.rungs.add(
            name=f"r{rung}",
            config_json="{}",
            artifact=bundle_pb2.Artifact(runtime="reference", blob=_module(blobs, number, rung, shape)),
            precision="fp32",
            threads=1,
            batch=shape[0],
            accuracy=0.7 + 0.05 * rung,
            cpu_us=50.0 * (rung + 1),
            golden=_tensors(blobs, {name: value.astype(np.float32) for name, value in outputs.items()}),
            tolerance=TOLERANCE,
            memory_bytes=1 << 20,
        )
    manifest = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return Bundle(number, shape, canonical(manifest), blobs)


def add_blob(bundle: Bundle, data: bytes) -> dict[str, str]:
    """Put bytes into a bundle; returns the reference to write into its manifest."""
    sha256 = hashlib.sha256(data).hexdigest()
    bundle.blobs[sha256] = data
    return {"sha256": sha256, "size_bytes": str(len(data))}


def _module(blobs: dict[str, bytes], number: int, rung: int, shape: tuple[int, ...]) -> bundle_pb2.BlobRef:
    bias = np.full(CLASSES, number * BUNDLE_GAP + rung * RUNG_GAP, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module"
        steps = [Step("affine", ("input.0", "weight", "bias"), "output.0")]
        save(path, steps, {"weight": weight(shape), "bias": bias})
        return _blob(blobs, path.read_bytes())


def _tensors(blobs: dict[str, bytes], tensors: dict[str, np.ndarray]) -> bundle_pb2.BlobRef:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensors"
        tensorfile.write(path, tensors)
        return _blob(blobs, path.read_bytes())


def _blob(blobs: dict[str, bytes], data: bytes) -> bundle_pb2.BlobRef:
    sha256 = hashlib.sha256(data).hexdigest()
    blobs[sha256] = data
    return bundle_pb2.BlobRef(sha256=sha256, size_bytes=len(data))


#: What shared agents serve, and an input to ask them with.
SERVING = make_bundle(1)
X = sample((1, 16), seed=7)
