"""Values to protobuf and back. What the servicers are given and return are messages; they come from here, go to here,
and reach nothing else. The Open Inference Protocol's are `inference`'s own: nobody else may import them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import duration_pb2, json_format, timestamp_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tailorbird_agent.bench.protocol import MAX_SAMPLES
from tailorbird_agent.deploy.machine import Phase
from tailorbird_agent.deploy.manifest import BlobRef, Compatible, Manifest, Rung, RuntimeBlob
from tailorbird_agent.errors import ERROR_DOMAIN, AgentError, BundleError, RequestError
from tailorbird_agent.uploads import Chunk
from tailorbird_agent.worker.plan import (
    DATATYPES,
    CandidateKind,
    CandidatePlan,
    Figure,
    GoldenPlan,
    Protocol,
    TensorSpec,
    Timings,
)
from tailorbird_api.agent.v1 import agent_service_pb2 as api
from tailorbird_api.types.v1 import bundle_pb2, device_pb2, event_pb2, measurement_pb2

if TYPE_CHECKING:
    from tailorbird_agent.deploy.runner import ModelStatus
    from tailorbird_agent.events import Event
    from tailorbird_agent.hardware import Card, Reading
    from tailorbird_agent.lease import Lease
    from tailorbird_agent.store.blobs import BlobStat

DETAILS_KEY = "grpc-status-details-bin"
#: gRPC drops a status whose trailers exceed 8 KiB, and the reason with it. The message travels twice, percent-encoded
#: and in base64: a byte of it may take more than four.
MAX_TEXT_BYTES = 1200
MAX_METADATA_BYTES = 200

_PHASES = {
    Phase.ABSENT: api.DEPLOYMENT_STATE_ABSENT,
    Phase.STAGED: api.DEPLOYMENT_STATE_STAGED,
    Phase.LOADED: api.DEPLOYMENT_STATE_LOADED,
    Phase.TRIAL: api.DEPLOYMENT_STATE_TRIAL,
    Phase.COMMITTED: api.DEPLOYMENT_STATE_COMMITTED,
    Phase.ROLLED_BACK: api.DEPLOYMENT_STATE_ROLLED_BACK,
}
_VERDICTS = {
    "ok": measurement_pb2.VERDICT_OK,
    "noisy": measurement_pb2.VERDICT_NOISY,
    "contended": measurement_pb2.VERDICT_CONTENDED,
    "throttled": measurement_pb2.VERDICT_THROTTLED,
    "unstable": measurement_pb2.VERDICT_UNSTABLE,
}
_KINDS: dict[int, CandidateKind] = {
    measurement_pb2.MODULE_KIND_TVM_KERNEL: "tvm-kernel",
    measurement_pb2.MODULE_KIND_TVM_MODEL: "tvm-model",
    measurement_pb2.MODULE_KIND_LITERT_MODEL: "litert-model",
}


def status_of(error: AgentError) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """gRPC code, message and trailing metadata that carry an error: ErrorInfo always, RetryInfo when waiting helps."""
    metadata = {name: _shortened(value, MAX_METADATA_BYTES) for name, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=ERROR_DOMAIN, metadata={**metadata, "fix": error.entry.fix}
    )
    text = _shortened(str(error), MAX_TEXT_BYTES)
    status = status_pb2.Status(code=code_pb2.Code.Value(error.entry.code), message=text)
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration(error.retry_after_s)))
    return grpc.StatusCode[error.entry.code], text, ((DETAILS_KEY, status.SerializeToString()),)


def duration(seconds: float) -> duration_pb2.Duration:
    """Seconds as a Duration."""
    message = duration_pb2.Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


def timestamp(unix_s: float) -> timestamp_pb2.Timestamp:
    """Unix time as a Timestamp."""
    message = timestamp_pb2.Timestamp()
    message.FromNanoseconds(int(unix_s * 1e9))
    return message


def message_of(data: bytes, deserializer: Callable[[bytes], Any]) -> Any | None:
    """What a generated deserializer reads, None when the bytes are no such message."""
    try:
        return deserializer(data)
    except DecodeError:
        return None


def seconds_of(message: Message, field: str) -> float | None:
    """A Duration field in seconds, None when it is absent."""
    return getattr(message, field).ToNanoseconds() / 1e9 if message.HasField(field) else None


def positive_seconds_of(message: Message, field: str) -> float | None:
    """A Duration field in seconds, None when it is absent.

    Raises:
        RequestError: INPUT_INVALID, when it is not above zero.
    """
    seconds = seconds_of(message, field)
    if seconds is not None and seconds <= 0:
        raise RequestError("INPUT_INVALID", f"{field} is {seconds:g} s.")
    return seconds


def optional_int(message: Message, field: str) -> int | None:
    """An optional integer field, None when it is absent."""
    return int(getattr(message, field)) if message.HasField(field) else None


def optional_float(message: Message, field: str) -> float | None:
    """An optional number, None when it is absent.

    Raises:
        RequestError: INPUT_INVALID, when it is not a finite number above zero.
    """
    if not message.HasField(field):
        return None
    value = float(getattr(message, field))
    if not (math.isfinite(value) and value > 0):
        raise RequestError("INPUT_INVALID", f"{field} is {value}.")
    return value


def card_to_proto(card: Card) -> device_pb2.DeviceCard:
    """The device's card."""
    return device_pb2.DeviceCard(
        name=card.name,
        agent_version=card.agent_version,
        machine=card.machine,
        triple=card.triple,
        cpu_model=card.cpu_model,
        llvm_cpu=card.llvm_cpu,
        cores=card.cores,
        isa_features=card.isa_features,
        caches=[
            device_pb2.Cache(level=each.level, kind=each.kind, size_bytes=each.size_bytes, shared_by=each.shared_by)
            for each in card.caches
        ],
        memory_bytes=card.memory_bytes,
        libc=card.libc,
        kernel=card.kernel,
        runtimes=[device_pb2.Runtime(name=name, version=version) for name, version in card.runtimes],
        board=card.board,
    )


def readings_to_proto(readings: Iterable[Reading]) -> list[device_pb2.Reading]:
    """Sensor readings; an absent one has no value."""
    return [device_pb2.Reading(name=each.name, value=each.value, source=each.source) for each in readings]


def lease_to_proto(lease: Lease) -> api.Lease:
    """A lease."""
    return api.Lease(
        lease_id=lease.lease_id,
        holder=lease.holder,
        fencing_token=lease.token,
        expires=timestamp(lease.expires_unix_s),
        waiting=lease.waiting,
    )


def event_to_proto(event: Event) -> event_pb2.Event:
    """An event."""
    return event_pb2.Event(
        sequence=event.sequence,
        time=timestamp(event.time_s),
        kind=event.kind,
        model=event.model,
        message=event.message,
        details=event.details,
    )


def blob_to_proto(stat: BlobStat) -> api.BlobStat:
    """How much of a blob is here."""
    return api.BlobStat(sha256=stat.sha256, complete=stat.complete, offset_bytes=stat.offset_bytes)


def chunk_from_proto(message: api.UploadBlobsRequest) -> Chunk:
    """A piece of a blob."""
    return Chunk(message.sha256, message.size_bytes, message.offset_bytes, message.data, message.fencing_token)


def deployment_to_proto(status: ModelStatus) -> api.Deployment:
    """One model: what is recorded of it and what its worker says."""
    deployment, stats = status.deployment, status.stats
    message = api.Deployment(
        model=deployment.model,
        state=_PHASES[deployment.phase],
        active_sha256=deployment.active,
        previous_sha256=deployment.previous,
        staged_sha256=deployment.staged,
        generation=deployment.generation,
        policy=status.policy,
        slo_us=status.slo_us,
    )
    if status.serving is not None and stats is not None:
        for rung in status.serving.manifest.rungs:
            message.rungs.add(
                name=rung.name,
                runtime=rung.runtime,
                accuracy=rung.accuracy,
                cpu_us=rung.cpu_us,
                requests=stats.rungs.get(rung.name, 0),
            )
        message.current_rung = stats.current_rung
        message.requests = stats.requests
        message.misses = stats.misses
        message.switches = stats.switches
        message.worker_pid = status.serving.worker.pid
    return message


def protocol_from_proto(message: measurement_pb2.TimingProtocol) -> Protocol:
    """A timing protocol; fields left at zero take the quick protocol's values.

    Raises:
        RequestError: INPUT_INVALID.
    """
    protocol = Protocol(
        mode=message.mode or "quick",
        min_runs=message.min_runs or 20,
        min_time_ms=message.min_time_ms or 500,
        max_time_ms=message.max_time_ms or 10_000,
        threads=message.threads or 1,
    )
    if min(protocol.min_runs, protocol.min_time_ms, protocol.max_time_ms, protocol.threads) < 0:
        raise RequestError("INPUT_INVALID", "A number of the timing protocol is negative.")
    if protocol.max_time_ms > 600_000 or protocol.min_runs > MAX_SAMPLES or protocol.threads > 1024:
        raise RequestError(
            "INPUT_INVALID", f"The timing protocol asks for more than 600 s, {MAX_SAMPLES} runs or 1024 threads."
        )
    return protocol


def kind_from_proto(kind: int) -> CandidateKind:
    """How a candidate is loaded.

    Raises:
        RequestError: INPUT_INVALID.
    """
    if kind not in _KINDS:
        raise RequestError("INPUT_INVALID", f"Candidate kind {kind} is not one this agent can load.")
    return _KINDS[kind]


def specs_from_proto(messages: Sequence[measurement_pb2.TensorSpec]) -> tuple[TensorSpec, ...]:
    """Tensor signatures.

    Raises:
        RequestError: INPUT_INVALID, an unknown datatype or a size below one.
    """
    specs = tuple(_spec(message) for message in messages)
    for spec in specs:
        if spec.datatype not in DATATYPES or any(size < 1 for size in spec.shape):
            raise RequestError("INPUT_INVALID", f'"{spec.name}" is {spec.datatype}{list(spec.shape)}.')
    return specs


def candidate_from_proto(message: measurement_pb2.Candidate, path_of: Callable[[str], Path]) -> CandidatePlan:
    """A candidate whose module and golden files lie where `path_of` says.

    Raises:
        RequestError: INPUT_INVALID; what path_of raises.
    """
    module = path_of(message.sha256)
    args = specs_from_proto(message.args)
    if not message.deadline_us >= 0.0 or any(not 0 <= index < len(args) for index in message.uniform_args):
        raise RequestError("INPUT_INVALID", f'Candidate "{message.label}" has an impossible deadline or argument.')
    return CandidatePlan(
        kind_from_proto(message.kind),
        module,
        args,
        message.label,
        symbol=message.symbol or "main",
        deadline_us=message.deadline_us,
        check=message.check,
        uniform_args=tuple(message.uniform_args),
        golden=_golden_from_proto(message.golden, path_of) if message.HasField("golden") else None,
    )


def _golden_from_proto(message: measurement_pb2.GoldenAnswers, path_of: Callable[[str], Path]) -> GoldenPlan:
    if not (message.relative_tolerance >= 0.0 and message.absolute_tolerance >= 0.0 and message.outputs):
        raise RequestError("INPUT_INVALID", "Golden answers need outputs, and tolerances of zero or more.")
    return GoldenPlan(
        path_of(message.inputs_sha256),
        path_of(message.outputs_sha256),
        specs_from_proto(message.outputs),
        message.relative_tolerance,
        message.absolute_tolerance,
    )


def timings_to_proto(timings: Timings) -> measurement_pb2.Measurement:
    """Timings of one candidate, or its error."""
    return measurement_pb2.Measurement(
        label=timings.label,
        wall_us=timings.wall_us,
        cpu_us=timings.cpu_us,
        verdict=measurement_pb2.VERDICT_UNSPECIFIED if timings.error else _VERDICTS[timings.verdict],
        verdict_reason=timings.verdict_reason,
        error=timings.error,
        environment=dict(timings.environment),
        delay_us=timings.delay_us,
        blocks=timings.blocks,
        sums=timings.sums,
    )


def figure_to_proto(figure: Figure) -> api.BenchmarkFigure:
    """One measured property of the device."""
    measurement = timings_to_proto(figure.timings)
    return api.BenchmarkFigure(name=figure.name, value=figure.value, unit=figure.unit, measurement=measurement)


def manifest_from_json(data: bytes) -> Manifest:
    """A manifest from its bytes. `deploy.manifest.validate` judges what it says.

    Raises:
        BundleError: MANIFEST_INVALID, not protobuf JSON of a Manifest, or with fields this agent does not know.
    """
    try:
        message = json_format.Parse(data, bundle_pb2.Manifest())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError("MANIFEST_INVALID", f"{str(error)[:300]}.") from None
    wanted = message.compatible
    return Manifest(
        schema=message.schema,
        model=message.model,
        compatible=Compatible(
            triple=wanted.triple,
            libc=wanted.libc,
            isa_features=tuple(wanted.isa_features),
            runtimes=tuple((each.runtime, each.version) for each in wanted.runtimes),
        ),
        inputs=tuple(map(_spec, message.inputs)),
        outputs=tuple(map(_spec, message.outputs)),
        rungs=tuple(map(_rung, message.rungs)),
        golden_inputs=_blob_ref(message.golden_inputs),
        runtime_blobs=tuple(
            RuntimeBlob(each.runtime, each.version, _blob_ref(each.blob)) for each in message.runtime_blobs
        ),
        min_agent_version=message.min_agent_version,
        slo_us=message.slo_us if message.HasField("slo_us") else None,
    )


def _shortened(text: str, limit_bytes: int) -> str:
    data = text.encode()
    return text if len(data) <= limit_bytes else data[: limit_bytes - 3].decode(errors="ignore") + "..."


def _rung(message: bundle_pb2.Rung) -> Rung:
    return Rung(
        name=message.name,
        runtime=message.artifact.runtime,
        module=_blob_ref(message.artifact.blob),
        parameters=tuple(map(_blob_ref, message.artifact.parameters)),
        threads=message.threads,
        accuracy=message.accuracy,
        cpu_us=message.cpu_us,
        golden=_blob_ref(message.golden),
        tolerance=message.tolerance,
        memory_bytes=message.memory_bytes,
    )


def _blob_ref(message: bundle_pb2.BlobRef) -> BlobRef:
    return BlobRef(message.sha256, message.size_bytes)


def _spec(message: measurement_pb2.TensorSpec) -> TensorSpec:
    return TensorSpec(message.name, message.datatype, tuple(message.shape))
