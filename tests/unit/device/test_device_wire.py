"""Values and messages say the same."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird import wire
from tailorbird.errors import InputShapeError
from tailorbird.types import (
    DATATYPES,
    Artifact,
    BlobRef,
    Candidate,
    Compatible,
    DeploymentState,
    GoldenAnswers,
    Manifest,
    ManifestRung,
    ModuleKind,
    RuntimeBlob,
    TensorSpec,
    TimingProtocol,
    Verdict,
)
from tailorbird_api.agent.v1 import agent_service_pb2
from tailorbird_api.types.v1 import device_pb2, measurement_pb2

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
size = st.integers(0, 2**62)
number = st.floats(allow_nan=False, allow_infinity=False)
refs = st.builds(BlobRef, st.text("0123456789abcdef", min_size=64, max_size=64), size)
specs = st.lists(
    st.builds(TensorSpec, text, st.sampled_from(sorted(DATATYPES)), st.lists(size, max_size=4).map(tuple)), max_size=3
).map(tuple)
rungs = st.builds(
    ManifestRung,
    name=text,
    config_json=text,
    artifact=st.builds(Artifact, text, refs, st.lists(refs, max_size=2).map(tuple)),
    precision=text,
    threads=st.integers(0, 64),
    batch=st.integers(0, 64),
    accuracy=number,
    cpu_us=number,
    golden=refs,
    tolerance=number,
    memory_bytes=size,
)
manifests = st.builds(
    Manifest,
    model=text,
    compatible=st.builds(
        Compatible,
        text,
        text,
        st.lists(text, max_size=3).map(tuple),
        st.lists(st.tuples(text, text), max_size=2).map(tuple),
    ),
    inputs=specs,
    outputs=specs,
    rungs=st.lists(rungs, max_size=3).map(tuple),
    golden_inputs=refs,
    runtime_blobs=st.lists(st.builds(RuntimeBlob, text, text, refs), max_size=2).map(tuple),
    min_agent_version=text,
    slo_us=st.none() | number,
    created_by=text,
    signatures=st.lists(text, max_size=2).map(tuple),
)


@settings(deadline=None)
@given(manifests)
def test_a_manifest_survives_its_bytes(manifest: Manifest):
    data = wire.manifest_to_bytes(manifest)
    assert wire.manifest_from_bytes(data) == manifest
    assert data == wire.manifest_to_bytes(wire.manifest_from_bytes(data))
    assert data == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode()


@given(st.sampled_from(sorted(DATATYPES)), st.lists(st.integers(0, 4), max_size=3), st.booleans())
def test_arrays_travel_dense_and_little_endian(datatype: str, shape: list[int], swap: bool):
    dtype = np.dtype(DATATYPES[datatype][0])
    array = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape).T
    sent = array.astype(dtype.newbyteorder(">")) if swap else array
    request = wire.infer_request("m", {"x": sent}, "r1", 5.0)
    assert request.inputs[0].datatype == datatype
    assert list(request.inputs[0].shape) == list(array.shape)
    assert request.raw_input_contents[0] == np.ascontiguousarray(array).tobytes()
    assert request.parameters["slo_us"].double_param == 5.0


@pytest.mark.parametrize("dtype", [np.complex64, np.uint64, "U3", object])
def test_a_dtype_without_a_word_is_refused(dtype):
    with pytest.raises(InputShapeError):
        wire.datatype_of(np.zeros(1, dtype))


def test_every_state_verdict_and_kind_of_the_protocol_is_known():
    states = {wire.deployment_from(agent_service_pb2.Deployment(state=s)).state
              for s in agent_service_pb2.DeploymentState.values()}  # fmt: skip
    assert states == set(DeploymentState)
    verdicts = {wire.measurement_from(measurement_pb2.Measurement(verdict=v)).verdict
                for v in measurement_pb2.Verdict.values()}  # fmt: skip
    assert verdicts == set(Verdict)
    kinds = {wire.candidate_to(Candidate(kind, b"", ()), "0").kind for kind in ModuleKind}
    assert kinds == set(measurement_pb2.ModuleKind.values()) - {0}


def test_golden_answers_are_sent_by_digest():
    golden = GoldenAnswers(b"inputs", b"outputs", (TensorSpec("y", "FP32", (1, 4)),), 1e-4, 1e-5)
    sent = wire.candidate_to(Candidate(ModuleKind.TVM_MODEL, b"", (), golden=golden), "0").golden
    assert sent.inputs_sha256 == hashlib.sha256(b"inputs").hexdigest()
    assert sent.outputs_sha256 == hashlib.sha256(b"outputs").hexdigest()
    assert [list(spec.shape) for spec in sent.outputs] == [[1, 4]]
    assert (sent.relative_tolerance, sent.absolute_tolerance) == (1e-4, 1e-5)
    assert not wire.candidate_to(Candidate(ModuleKind.TVM_MODEL, b"", ()), "0").HasField("golden")


def test_an_absent_reading_is_none_and_zero_is_zero():
    message = agent_service_pb2.GetStatusResponse(
        readings=[device_pb2.Reading(name="a", source="s"), device_pb2.Reading(name="b", value=0.0, source="s")]
    )
    sensors = wire.status_from(message).sensors
    assert (sensors["a"], sensors["b"]) == (None, 0.0)


def test_a_protocol_is_sent_in_milliseconds():
    message = wire.protocol_to(TimingProtocol("x", 3, 0.0051, 2.0, threads=2))
    assert (message.min_runs, message.min_time_ms, message.max_time_ms, message.threads) == (3, 5, 2000, 2)


@given(st.floats(0, 1e6))
def test_a_duration_keeps_its_nanoseconds(seconds: float):
    message = wire.duration(seconds)
    assert message.seconds + message.nanos / 1e9 == pytest.approx(seconds, abs=2e-9)
    assert 0 <= message.nanos < 10**9
