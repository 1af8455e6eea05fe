"""Valid messages with bytes changed, cut, doubled, at every parser: read, or refused in the words of the catalogue.

Nothing else may come out of a parser, and what it takes in memory does not grow with what it is given.
"""

from __future__ import annotations

import os
import random
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from agentkit.bundles import SERVING, X
from agentkit.garbage import mutated
from agentkit.process import infer_request
from google.protobuf.message import DecodeError

from tailorbird_agent import inference, wire
from tailorbird_agent.deploy.manifest import validate
from tailorbird_agent.errors import CATALOGUE, AgentError
from tailorbird_agent.regions import Audience, Regions
from tailorbird_agent.worker.plan import TensorSpec
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.inference import open_inference_pb2 as oip
from tailorbird_api.types.v1 import measurement_pb2

#: Messages for all parsers together.
MESSAGES = int(os.environ.get("TAILORBIRD_TEST_MUTATIONS", "100000"))
_GROWTH_BYTES = 64 << 20
INPUTS = (TensorSpec("x", "FP32", (1, 16)),)
OUTPUTS = (TensorSpec("y", "FP32", (1, 4)),)


def read_manifest(data: bytes) -> None:
    validate(wire.manifest_from_json(data))


def read_inference(data: bytes) -> None:
    request = oip.ModelInferRequest.FromString(data)
    inference._tensors(request, INPUTS, LOCAL)
    inference._chosen(request, OUTPUTS, LOCAL)
    inference._microseconds(request, "slo_us")
    inference._microseconds(request, "timeout", zero_is_none=True)


def read_measurement(data: bytes) -> None:
    request = api.MeasureModulesRequest.FromString(data)
    wire.protocol_from_proto(request.protocol)
    for candidate in request.candidates:
        wire.candidate_from_proto(candidate, Path("/nowhere").joinpath)


def read_chunk(data: bytes) -> None:
    wire.chunk_from_proto(api.UploadBlobsRequest.FromString(data))


def read_lease(data: bytes) -> None:
    request = api.AcquireLeaseRequest.FromString(data)
    wire.seconds_of(request, "duration")
    wire.seconds_of(request, "wait")


def shared() -> inference._Local:
    """A caller on the Unix socket with a region; parsers look it up and do not open it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tensors").write_bytes(bytes(4096))
        regions = Regions(Audience(os.geteuid(), None), Path(folder))
        regions.register("region", "tensors", 0, 4096)
    return inference._Local(regions, lambda: "unix:")


LOCAL = shared()


def valid_shared_inference() -> bytes:
    request = infer_request(X)
    del request.raw_input_contents[:]
    request.outputs.add(name="y")
    for parameters, size_bytes in ((request.inputs[0].parameters, 64), (request.outputs[0].parameters, 16)):
        parameters["shared_memory_region"].string_param = "region"
        parameters["shared_memory_byte_size"].int64_param = size_bytes
        parameters["shared_memory_offset"].int64_param = 128
    return request.SerializeToString()


def valid_inference() -> bytes:
    request = infer_request(X)
    request.parameters["slo_us"].double_param = 25_000.0
    request.parameters["timeout"].int64_param = 1_000_000
    request.outputs.add(name="y")
    return request.SerializeToString()


def valid_measurement() -> bytes:
    request = api.MeasureModulesRequest(fencing_token=7, interleaved=True, seed=3)
    request.protocol.CopyFrom(measurement_pb2.TimingProtocol(mode="quick", min_runs=20))
    for kind in (1, 2, 3):
        candidate = request.candidates.add(sha256="0" * 64, kind=kind, label="conv")
        candidate.args.add(name="x", datatype="FP32", shape=(1, 3, 8, 8))
        golden = candidate.golden
        golden.inputs_sha256, golden.outputs_sha256, golden.absolute_tolerance = "1" * 64, "2" * 64, 1e-3
        golden.outputs.add(name="y", datatype="FP32", shape=(1, 10))
    return request.SerializeToString()


def valid_chunk() -> bytes:
    return api.UploadBlobsRequest(sha256="0" * 64, size_bytes=3, offset_bytes=0, data=b"abc").SerializeToString()


def valid_lease() -> bytes:
    request = api.AcquireLeaseRequest(request_id="a", holder="b", priority=3)
    request.duration.FromSeconds(60)
    request.wait.FromSeconds(1)
    return request.SerializeToString()


PARSERS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "manifest": (read_manifest, SERVING.manifest),
    "inference": (read_inference, valid_inference()),
    "shared inference": (read_inference, valid_shared_inference()),
    "measurement": (read_measurement, valid_measurement()),
    "chunk": (read_chunk, valid_chunk()),
    "lease": (read_lease, valid_lease()),
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_mutated_message_is_read_or_refused_in_the_words_of_the_catalogue(name: str) -> None:
    read, valid = PARSERS[name]
    read(valid)
    chance = random.Random(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "undecodable": 0, "refused": 0}
    for _ in range(MESSAGES // len(PARSERS)):
        data = mutated(valid, chance)
        try:
            read(data)
        except DecodeError:
            outcomes["undecodable"] += 1
        except AgentError as error:
            assert error.reason in CATALOGUE
            assert error.reason != "INTERNAL"
            assert len(str(error)) < 4000
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < _GROWTH_BYTES
    assert outcomes["read"] + outcomes["undecodable"] + outcomes["refused"] == MESSAGES // len(PARSERS)
    assert max(outcomes.values()) < MESSAGES // len(PARSERS)  # more than one way through was taken
