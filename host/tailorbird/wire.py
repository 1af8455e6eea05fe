"""Values <-> protobuf: the one module of the host that touches generated classes.

The Open Inference Protocol's classes are imported only when used: another client of that protocol in the same process
(tritonclient) registers the same names, and protobuf accepts one registration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf import duration_pb2, json_format, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2
from numpy.typing import NDArray

from tailorbird.cache import sha256_of
from tailorbird.errors import BundleError, DeviceError, InputShapeError
from tailorbird.types import (
    DATATYPES,
    AgentStatus,
    Artifact,
    BlobRef,
    BlobState,
    Cache,
    Candidate,
    Compatible,
    Deployment,
    DeploymentState,
    DeviceCard,
    Event,
    Figure,
    GoldenAnswers,
    Inference,
    LeaseGrant,
    Manifest,
    ManifestRung,
    Measurement,
    ModuleKind,
    Policy,
    Reading,
    RungStatus,
    RuntimeBlob,
    Sensors,
    TensorSpec,
    TimingProtocol,
    Verdict,
)
from tailorbird.types.bundle import MANIFEST_SCHEMA
from tailorbird_api.agent.v1 import agent_service_pb2 as agent_pb
from tailorbird_api.agent.v1 import agent_service_pb2_grpc as agent_grpc
from tailorbird_api.types.v1 import bundle_pb2, device_pb2, event_pb2, measurement_pb2

if TYPE_CHECKING:
    from tailorbird_api.inference import open_inference_pb2 as oip_pb

#: Messages of the agent's service, by the name of their call: requests are made here, spelled once.
requests = agent_pb

_STATES = {
    agent_pb.DEPLOYMENT_STATE_ABSENT: DeploymentState.ABSENT,
    agent_pb.DEPLOYMENT_STATE_STAGED: DeploymentState.STAGED,
    agent_pb.DEPLOYMENT_STATE_LOADED: DeploymentState.LOADED,
    agent_pb.DEPLOYMENT_STATE_TRIAL: DeploymentState.TRIAL,
    agent_pb.DEPLOYMENT_STATE_COMMITTED: DeploymentState.COMMITTED,
    agent_pb.DEPLOYMENT_STATE_ROLLED_BACK: DeploymentState.ROLLED_BACK,
}
_VERDICTS = {
    measurement_pb2.VERDICT_UNSPECIFIED: Verdict.OK,
    measurement_pb2.VERDICT_OK: Verdict.OK,
    measurement_pb2.VERDICT_NOISY: Verdict.NOISY,
    measurement_pb2.VERDICT_CONTENDED: Verdict.CONTENDED,
    measurement_pb2.VERDICT_THROTTLED: Verdict.THROTTLED,
    measurement_pb2.VERDICT_UNSTABLE: Verdict.UNSTABLE,
}
_KINDS: dict[ModuleKind, Any] = {
    ModuleKind.TVM_KERNEL: measurement_pb2.MODULE_KIND_TVM_KERNEL,
    ModuleKind.TVM_MODEL: measurement_pb2.MODULE_KIND_TVM_MODEL,
    ModuleKind.LITERT_MODEL: measurement_pb2.MODULE_KIND_LITERT_MODEL,
}
_DATATYPE_OF = {np.dtype(dtype): name for name, (dtype, _) in DATATYPES.items()}


# -- stubs and errors


def agent_stub(channel: grpc.Channel) -> Any:
    """Client of the agent's control service."""
    return agent_grpc.AgentServiceStub(channel)


def inference_stub(channel: grpc.Channel) -> Any:
    """Client of the Open Inference Protocol."""
    from tailorbird_api.inference import open_inference_pb2_grpc as oip_grpc

    return oip_grpc.GRPCInferenceServiceStub(channel)


def error_info(error: grpc.RpcError) -> tuple[str, str]:
    """(reason, fix) that an agent attached to its error as google.rpc.ErrorInfo; empty strings when it did not."""
    trailing: Iterable[tuple[str, str | bytes]] = getattr(error, "trailing_metadata", tuple)() or ()
    for key, value in trailing:
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                return info.reason, info.metadata.get("fix", "")
    return "", ""


# -- small pieces


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a protobuf duration."""
    return duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def _time(stamp: timestamp_pb2.Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)


def tensor_spec_to(spec: TensorSpec) -> measurement_pb2.TensorSpec:
    """TensorSpec -> message."""
    return measurement_pb2.TensorSpec(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def tensor_spec_from(message: measurement_pb2.TensorSpec) -> TensorSpec:
    """Message -> TensorSpec. Raises ValueError for a datatype this release does not know."""
    if message.datatype not in DATATYPES:
        raise ValueError(f"tensor {message.name!r} has the unknown datatype {message.datatype!r}")
    return TensorSpec(message.name, message.datatype, tuple(message.shape))


# -- device


def card_from(message: device_pb2.DeviceCard) -> DeviceCard:
    """Message -> DeviceCard."""
    return DeviceCard(
        name=message.name,
        agent_version=message.agent_version,
        machine=message.machine,
        triple=message.triple,
        cpu_model=message.cpu_model,
        llvm_cpu=message.llvm_cpu,
        cores=message.cores,
        isa_features=tuple(message.isa_features),
        caches=tuple(Cache(c.level, c.kind, c.size_bytes, c.shared_by) for c in message.caches),
        memory_bytes=message.memory_bytes,
        libc=message.libc,
        kernel=message.kernel,
        runtimes=tuple((r.name, r.version) for r in message.runtimes),
        board=message.board if message.HasField("board") else None,
    )


def _reading(message: device_pb2.Reading) -> Reading:
    return Reading(message.name, message.value if message.HasField("value") else None, message.source)


def deployment_from(message: agent_pb.Deployment) -> Deployment:
    """Message -> Deployment."""
    return Deployment(
        model=message.model,
        state=_STATES.get(message.state, DeploymentState.ABSENT),
        active=message.active_sha256 or None,
        previous=message.previous_sha256 or None,
        staged=message.staged_sha256 or None,
        generation=message.generation,
        rungs=tuple(RungStatus(r.name, r.runtime, r.accuracy, r.cpu_us, r.requests) for r in message.rungs),
        current_rung=message.current_rung,
        policy=message.policy,
        slo_us=message.slo_us if message.HasField("slo_us") else None,
        requests=message.requests,
        misses=message.misses,
        switches=message.switches,
        worker_pid=message.worker_pid or None,
    )


def lease_from(message: agent_pb.Lease) -> LeaseGrant:
    """Message -> LeaseGrant."""
    return LeaseGrant(message.lease_id, message.holder, message.fencing_token, _time(message.expires), message.waiting)


def status_from(message: agent_pb.GetStatusResponse) -> AgentStatus:
    """Message -> AgentStatus."""
    return AgentStatus(
        card=card_from(message.card),
        sensors=Sensors(tuple(_reading(r) for r in message.readings)),
        deployments=tuple(deployment_from(d) for d in message.deployments),
        lease=lease_from(message.lease) if message.HasField("lease") else None,
        uptime_s=message.uptime.seconds + message.uptime.nanos / 1e9,
        sandbox=tuple(message.sandbox),
        last_event=message.last_event_sequence,
        power_mode=message.power_mode,
        benchmarks=tuple(message.benchmarks),
    )


def policy_from(message: agent_pb.GetPolicyResponse) -> Policy:
    """Message -> Policy."""
    return Policy(
        message.policy, message.slo_us if message.HasField("slo_us") else None, tuple(sorted(message.available))
    )


def event_from(message: event_pb2.Event) -> Event:
    """Message -> Event."""
    details = tuple(sorted(message.details.items()))
    return Event(message.sequence, _time(message.time), message.kind, message.model, message.message, details)


def blob_state_from(message: agent_pb.BlobStat) -> BlobState:
    """Message -> BlobState."""
    return BlobState(message.sha256, message.complete, message.offset_bytes)


# -- measuring


def protocol_to(protocol: TimingProtocol) -> measurement_pb2.TimingProtocol:
    """TimingProtocol -> message."""
    return measurement_pb2.TimingProtocol(
        mode=protocol.mode,
        min_runs=protocol.min_runs,
        min_time_ms=round(protocol.min_seconds * 1e3),
        max_time_ms=round(protocol.max_seconds * 1e3),
        threads=protocol.threads,
    )


def candidate_to(candidate: Candidate, sha256: str) -> measurement_pb2.Candidate:
    """Candidate -> message that names its module by digest."""
    return measurement_pb2.Candidate(
        kind=_KINDS[candidate.kind],
        sha256=sha256,
        args=[tensor_spec_to(spec) for spec in candidate.args],
        label=candidate.label,
        symbol=candidate.symbol,
        deadline_us=candidate.deadline_us,
        check=candidate.check,
        uniform_args=candidate.uniform_args,
        golden=None if candidate.golden is None else _golden_to(candidate.golden),
    )


def _golden_to(golden: GoldenAnswers) -> measurement_pb2.GoldenAnswers:
    return measurement_pb2.GoldenAnswers(
        inputs_sha256=sha256_of(golden.inputs),
        outputs_sha256=sha256_of(golden.outputs),
        outputs=[tensor_spec_to(spec) for spec in golden.specs],
        relative_tolerance=golden.relative,
        absolute_tolerance=golden.absolute,
    )


def measurement_from(message: measurement_pb2.Measurement) -> Measurement:
    """Message -> Measurement."""
    return Measurement(
        label=message.label,
        wall_us=tuple(message.wall_us),
        cpu_us=tuple(message.cpu_us),
        verdict=_VERDICTS.get(message.verdict, Verdict.NOISY),
        verdict_reason=message.verdict_reason,
        error=message.error,
        environment=tuple(sorted(message.environment.items())),
        delay_us=tuple(message.delay_us),
        blocks=tuple(message.blocks),
        sums=tuple(message.sums),
    )


def figure_from(message: agent_pb.BenchmarkFigure) -> Figure:
    """Message -> Figure."""
    return Figure(message.name, message.value, message.unit, measurement_from(message.measurement))


# -- bundle


def blob_ref_to(ref: BlobRef) -> bundle_pb2.BlobRef:
    """BlobRef -> message."""
    return bundle_pb2.BlobRef(sha256=ref.sha256, size_bytes=ref.size_bytes)


def _blob_ref(message: bundle_pb2.BlobRef) -> BlobRef:
    return BlobRef(message.sha256, message.size_bytes)


def runtime_blob_to(blob: RuntimeBlob) -> bundle_pb2.RuntimeBlob:
    """RuntimeBlob -> message."""
    return bundle_pb2.RuntimeBlob(runtime=blob.runtime, version=blob.version, blob=blob_ref_to(blob.blob))


def _rung_to(rung: ManifestRung) -> bundle_pb2.Rung:
    return bundle_pb2.Rung(
        name=rung.name,
        config_json=rung.config_json,
        artifact=bundle_pb2.Artifact(
            runtime=rung.artifact.runtime,
            blob=blob_ref_to(rung.artifact.blob),
            parameters=[blob_ref_to(p) for p in rung.artifact.parameters],
        ),
        precision=rung.precision,
        threads=rung.threads,
        batch=rung.batch,
        accuracy=rung.accuracy,
        cpu_us=rung.cpu_us,
        golden=blob_ref_to(rung.golden),
        tolerance=rung.tolerance,
        memory_bytes=rung.memory_bytes,
        timings=[bundle_pb2.RuntimeTiming(runtime=runtime, cpu_us=cpu_us) for runtime, cpu_us in rung.timings],
    )


def _rung_from(message: bundle_pb2.Rung) -> ManifestRung:
    artifact = message.artifact
    return ManifestRung(
        name=message.name,
        config_json=message.config_json,
        artifact=Artifact(artifact.runtime, _blob_ref(artifact.blob), tuple(_blob_ref(p) for p in artifact.parameters)),
        precision=message.precision,
        threads=message.threads,
        batch=message.batch,
        accuracy=message.accuracy,
        cpu_us=message.cpu_us,
        golden=_blob_ref(message.golden),
        tolerance=message.tolerance,
        memory_bytes=message.memory_bytes,
        timings=tuple((timing.runtime, timing.cpu_us) for timing in message.timings),
    )


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Canonical JSON of a manifest: proto field names, sorted keys, no spaces. Its SHA-256 names the bundle."""
    message = bundle_pb2.Manifest(
        schema=manifest.schema,
        model=manifest.model,
        compatible=bundle_pb2.Compatible(
            triple=manifest.compatible.triple,
            libc=manifest.compatible.libc,
            isa_features=manifest.compatible.isa_features,
            runtimes=[bundle_pb2.RuntimeRequirement(runtime=n, version=v) for n, v in manifest.compatible.runtimes],
        ),
        inputs=[tensor_spec_to(spec) for spec in manifest.inputs],
        outputs=[tensor_spec_to(spec) for spec in manifest.outputs],
        rungs=[_rung_to(rung) for rung in manifest.rungs],
        golden_inputs=blob_ref_to(manifest.golden_inputs),
        runtime_blobs=[runtime_blob_to(blob) for blob in manifest.runtime_blobs],
        min_agent_version=manifest.min_agent_version,
        slo_us=manifest.slo_us,
        created_by=manifest.created_by,
        signatures=manifest.signatures,
    )
    data = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def _known_schema(schema: str) -> str:
    if schema != MANIFEST_SCHEMA:
        raise ValueError(f"schema is {schema!r}, this release reads {MANIFEST_SCHEMA!r}")
    return schema


def manifest_from_bytes(data: bytes) -> Manifest:
    """Inverse of manifest_to_bytes. Raises BundleError when the bytes are no manifest of a schema known here."""
    try:
        message = json_format.Parse(data, bundle_pb2.Manifest())
        return Manifest(
            model=message.model,
            compatible=Compatible(
                message.compatible.triple,
                message.compatible.libc,
                tuple(message.compatible.isa_features),
                tuple((r.runtime, r.version) for r in message.compatible.runtimes),
            ),
            inputs=tuple(tensor_spec_from(spec) for spec in message.inputs),
            outputs=tuple(tensor_spec_from(spec) for spec in message.outputs),
            rungs=tuple(_rung_from(rung) for rung in message.rungs),
            golden_inputs=_blob_ref(message.golden_inputs),
            runtime_blobs=tuple(RuntimeBlob(b.runtime, b.version, _blob_ref(b.blob)) for b in message.runtime_blobs),
            min_agent_version=message.min_agent_version,
            slo_us=message.slo_us if message.HasField("slo_us") else None,
            created_by=message.created_by,
            schema=_known_schema(message.schema),
            signatures=tuple(message.signatures),
        )
    except (json_format.ParseError, UnicodeDecodeError, ValueError) as cause:
        raise BundleError(
            "the bundle's manifest cannot be read",
            why=str(cause),
            fix="pack the bundle again",
            reason="MANIFEST_INVALID",
        ) from cause


# -- inference


def datatype_of(array: NDArray[np.generic]) -> str:
    """Open Inference Protocol datatype of an array. Raises InputShapeError for dtypes the protocol has no word for."""
    name = _DATATYPE_OF.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise InputShapeError(
            f"arrays of dtype {array.dtype} cannot be sent to a model", fix=f"convert to one of {', '.join(DATATYPES)}"
        )
    return name


def infer_request(
    model: str, inputs: Mapping[str, NDArray[np.generic]], version: str, slo_us: float | None
) -> oip_pb.ModelInferRequest:
    """Arrays -> request with raw contents. Raises InputShapeError for an unknown dtype."""
    from tailorbird_api.inference import open_inference_pb2 as oip_pb

    request = oip_pb.ModelInferRequest(model_name=model, model_version=version)
    if slo_us is not None:
        request.parameters["slo_us"].double_param = slo_us
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        request.raw_input_contents.append(little_endian.tobytes())
    return request


def inference_from(message: oip_pb.ModelInferResponse) -> Inference:
    """Response -> Inference. Raises DeviceError when the response's tensors and bytes do not fit each other."""
    outputs: dict[str, NDArray[np.generic]] = {}
    try:
        for tensor, raw in zip(message.outputs, message.raw_output_contents, strict=True):
            outputs[tensor.name] = np.frombuffer(raw, DATATYPES[tensor.datatype][0]).reshape(tuple(tensor.shape))
    except (KeyError, ValueError) as cause:
        raise DeviceError(
            f"the answer of model {message.model_name!r} cannot be decoded", why=str(cause), reason="RESPONSE_INVALID"
        ) from cause
    times = {name: message.parameters[name].double_param for name in ("wall_us", "cpu_us", "queue_us")}
    missed = message.parameters["missed"].bool_param if "missed" in message.parameters else None
    return Inference(outputs, message.model_version, times["wall_us"], times["cpu_us"], times["queue_us"], missed)


def metadata_request(model: str) -> oip_pb.ModelMetadataRequest:
    """Request for a model's signature."""
    from tailorbird_api.inference import open_inference_pb2 as oip_pb

    return oip_pb.ModelMetadataRequest(name=model)


def signature_from(
    message: oip_pb.ModelMetadataResponse,
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """(inputs, outputs) of a served model."""

    def specs(tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(t.name, t.datatype, tuple(t.shape)) for t in tensors)

    return specs(message.inputs), specs(message.outputs)
