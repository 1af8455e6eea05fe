import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tailorbird_api.types.v1 import bundle_pb2 as _bundle_pb2
from tailorbird_api.types.v1 import device_pb2 as _device_pb2
from tailorbird_api.types.v1 import event_pb2 as _event_pb2
from tailorbird_api.types.v1 import measurement_pb2 as _measurement_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeploymentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEPLOYMENT_STATE_UNSPECIFIED: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_ABSENT: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_STAGED: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_LOADED: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_TRIAL: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_COMMITTED: _ClassVar[DeploymentState]
    DEPLOYMENT_STATE_ROLLED_BACK: _ClassVar[DeploymentState]
DEPLOYMENT_STATE_UNSPECIFIED: DeploymentState
DEPLOYMENT_STATE_ABSENT: DeploymentState
DEPLOYMENT_STATE_STAGED: DeploymentState
DEPLOYMENT_STATE_LOADED: DeploymentState
DEPLOYMENT_STATE_TRIAL: DeploymentState
DEPLOYMENT_STATE_COMMITTED: DeploymentState
DEPLOYMENT_STATE_ROLLED_BACK: DeploymentState

class RungStatus(_message.Message):
    __slots__ = ("name", "runtime", "accuracy", "cpu_us", "requests")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    runtime: str
    accuracy: float
    cpu_us: float
    requests: int
    def __init__(self, name: _Optional[str] = ..., runtime: _Optional[str] = ..., accuracy: _Optional[float] = ..., cpu_us: _Optional[float] = ..., requests: _Optional[int] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("model", "state", "active_sha256", "previous_sha256", "staged_sha256", "generation", "rungs", "current_rung", "policy", "slo_us", "requests", "misses", "switches", "worker_pid")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SHA256_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SHA256_FIELD_NUMBER: _ClassVar[int]
    STAGED_SHA256_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    RUNGS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_RUNG_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SLO_US_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    SWITCHES_FIELD_NUMBER: _ClassVar[int]
    WORKER_PID_FIELD_NUMBER: _ClassVar[int]
    model: str
    state: DeploymentState
    active_sha256: str
    previous_sha256: str
    staged_sha256: str
    generation: int
    rungs: _containers.RepeatedCompositeFieldContainer[RungStatus]
    current_rung: str
    policy: str
    slo_us: float
    requests: int
    misses: int
    switches: int
    worker_pid: int
    def __init__(self, model: _Optional[str] = ..., state: _Optional[_Union[DeploymentState, str]] = ..., active_sha256: _Optional[str] = ..., previous_sha256: _Optional[str] = ..., staged_sha256: _Optional[str] = ..., generation: _Optional[int] = ..., rungs: _Optional[_Iterable[_Union[RungStatus, _Mapping]]] = ..., current_rung: _Optional[str] = ..., policy: _Optional[str] = ..., slo_us: _Optional[float] = ..., requests: _Optional[int] = ..., misses: _Optional[int] = ..., switches: _Optional[int] = ..., worker_pid: _Optional[int] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lease_id", "holder", "fencing_token", "expires", "waiting")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    holder: str
    fencing_token: int
    expires: _timestamp_pb2.Timestamp
    waiting: int
    def __init__(self, lease_id: _Optional[str] = ..., holder: _Optional[str] = ..., fencing_token: _Optional[int] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., waiting: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("card", "readings", "deployments", "lease", "uptime", "sandbox", "last_event_sequence", "power_mode", "benchmarks")
    CARD_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    LAST_EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    POWER_MODE_FIELD_NUMBER: _ClassVar[int]
    BENCHMARKS_FIELD_NUMBER: _ClassVar[int]
    card: _device_pb2.DeviceCard
    readings: _containers.RepeatedCompositeFieldContainer[_device_pb2.Reading]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    lease: Lease
    uptime: _duration_pb2.Duration
    sandbox: _containers.RepeatedScalarFieldContainer[str]
    last_event_sequence: int
    power_mode: str
    benchmarks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, card: _Optional[_Union[_device_pb2.DeviceCard, _Mapping]] = ..., readings: _Optional[_Iterable[_Union[_device_pb2.Reading, _Mapping]]] = ..., deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., uptime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., sandbox: _Optional[_Iterable[str]] = ..., last_event_sequence: _Optional[int] = ..., power_mode: _Optional[str] = ..., benchmarks: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ("interval",)
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    interval: _duration_pb2.Duration
    def __init__(self, interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchStatusResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: GetStatusResponse
    def __init__(self, status: _Optional[_Union[GetStatusResponse, _Mapping]] = ...) -> None: ...

class AcquireLeaseRequest(_message.Message):
    __slots__ = ("request_id", "holder", "duration", "wait", "priority")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    holder: str
    duration: _duration_pb2.Duration
    wait: _duration_pb2.Duration
    priority: int
    def __init__(self, request_id: _Optional[str] = ..., holder: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class AcquireLeaseResponse(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class RenewLeaseRequest(_message.Message):
    __slots__ = ("lease_id", "duration")
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    duration: _duration_pb2.Duration
    def __init__(self, lease_id: _Optional[str] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RenewLeaseResponse(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: Lease
    def __init__(self, lease: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class ReleaseLeaseRequest(_message.Message):
    __slots__ = ("lease_id",)
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    lease_id: str
    def __init__(self, lease_id: _Optional[str] = ...) -> None: ...

class ReleaseLeaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RunBenchmarkRequest(_message.Message):
    __slots__ = ("fencing_token", "names", "protocol")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    names: _containers.RepeatedScalarFieldContainer[str]
    protocol: _measurement_pb2.TimingProtocol
    def __init__(self, fencing_token: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ..., protocol: _Optional[_Union[_measurement_pb2.TimingProtocol, _Mapping]] = ...) -> None: ...

class BenchmarkFigure(_message.Message):
    __slots__ = ("name", "value", "unit", "measurement")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    unit: str
    measurement: _measurement_pb2.Measurement
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., unit: _Optional[str] = ..., measurement: _Optional[_Union[_measurement_pb2.Measurement, _Mapping]] = ...) -> None: ...

class RunBenchmarkResponse(_message.Message):
    __slots__ = ("figures",)
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    figures: _containers.RepeatedCompositeFieldContainer[BenchmarkFigure]
    def __init__(self, figures: _Optional[_Iterable[_Union[BenchmarkFigure, _Mapping]]] = ...) -> None: ...

class MeasureModulesRequest(_message.Message):
    __slots__ = ("fencing_token", "candidates", "protocol", "runtime_blobs", "candidate_timeout", "interleaved", "seed", "fresh_process")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_BLOBS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVED_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FRESH_PROCESS_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    candidates: _containers.RepeatedCompositeFieldContainer[_measurement_pb2.Candidate]
    protocol: _measurement_pb2.TimingProtocol
    runtime_blobs: _containers.RepeatedCompositeFieldContainer[_bundle_pb2.RuntimeBlob]
    candidate_timeout: _duration_pb2.Duration
    interleaved: bool
    seed: int
    fresh_process: bool
    def __init__(self, fencing_token: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[_measurement_pb2.Candidate, _Mapping]]] = ..., protocol: _Optional[_Union[_measurement_pb2.TimingProtocol, _Mapping]] = ..., runtime_blobs: _Optional[_Iterable[_Union[_bundle_pb2.RuntimeBlob, _Mapping]]] = ..., candidate_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., interleaved: bool = ..., seed: _Optional[int] = ..., fresh_process: bool = ...) -> None: ...

class MeasureModulesResponse(_message.Message):
    __slots__ = ("index", "measurement")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENT_FIELD_NUMBER: _ClassVar[int]
    index: int
    measurement: _measurement_pb2.Measurement
    def __init__(self, index: _Optional[int] = ..., measurement: _Optional[_Union[_measurement_pb2.Measurement, _Mapping]] = ...) -> None: ...

class StatBlobsRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sha256: _Optional[_Iterable[str]] = ...) -> None: ...

class BlobStat(_message.Message):
    __slots__ = ("sha256", "complete", "offset_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    complete: bool
    offset_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., complete: bool = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class StatBlobsResponse(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[BlobStat]
    def __init__(self, blobs: _Optional[_Iterable[_Union[BlobStat, _Mapping]]] = ...) -> None: ...

class UploadBlobsRequest(_message.Message):
    __slots__ = ("sha256", "size_bytes", "offset_bytes", "data", "fencing_token")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    offset_bytes: int
    data: bytes
    fencing_token: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset_bytes: _Optional[int] = ..., data: _Optional[bytes] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class UploadBlobsResponse(_message.Message):
    __slots__ = ("blobs",)
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    blobs: _containers.RepeatedCompositeFieldContainer[BlobStat]
    def __init__(self, blobs: _Optional[_Iterable[_Union[BlobStat, _Mapping]]] = ...) -> None: ...

class StageBundleRequest(_message.Message):
    __slots__ = ("request_id", "manifest", "expected_generation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    manifest: bytes
    expected_generation: int
    def __init__(self, request_id: _Optional[str] = ..., manifest: _Optional[bytes] = ..., expected_generation: _Optional[int] = ...) -> None: ...

class StageBundleResponse(_message.Message):
    __slots__ = ("bundle_sha256", "deployment")
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    bundle_sha256: str
    deployment: Deployment
    def __init__(self, bundle_sha256: _Optional[str] = ..., deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class ActivateBundleRequest(_message.Message):
    __slots__ = ("request_id", "bundle_sha256", "expected_generation", "commit", "trial_timeout")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    TRIAL_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    bundle_sha256: str
    expected_generation: int
    commit: bool
    trial_timeout: _duration_pb2.Duration
    def __init__(self, request_id: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., expected_generation: _Optional[int] = ..., commit: bool = ..., trial_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ActivateBundleResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class CommitBundleRequest(_message.Message):
    __slots__ = ("request_id", "model", "expected_generation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    expected_generation: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., expected_generation: _Optional[int] = ...) -> None: ...

class CommitBundleResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class RollbackBundleRequest(_message.Message):
    __slots__ = ("request_id", "model", "expected_generation")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    expected_generation: int
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., expected_generation: _Optional[int] = ...) -> None: ...

class RollbackBundleResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class ListBundlesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBundlesResponse(_message.Message):
    __slots__ = ("deployments", "next_page_token")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    next_page_token: str
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SetPolicyRequest(_message.Message):
    __slots__ = ("request_id", "model", "policy", "slo_us")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SLO_US_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    policy: str
    slo_us: float
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., policy: _Optional[str] = ..., slo_us: _Optional[float] = ...) -> None: ...

class SetPolicyResponse(_message.Message):
    __slots__ = ("deployment",)
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class GetPolicyRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetPolicyResponse(_message.Message):
    __slots__ = ("policy", "slo_us", "available")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SLO_US_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    policy: str
    slo_us: float
    available: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, policy: _Optional[str] = ..., slo_us: _Optional[float] = ..., available: _Optional[_Iterable[str]] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("since_sequence", "page_size", "kinds", "model")
    SINCE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    since_sequence: int
    page_size: int
    kinds: _containers.RepeatedScalarFieldContainer[str]
    model: str
    def __init__(self, since_sequence: _Optional[int] = ..., page_size: _Optional[int] = ..., kinds: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ...) -> None: ...

class WatchEventsRequest(_message.Message):
    __slots__ = ("since_sequence", "kinds", "model")
    SINCE_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    since_sequence: int
    kinds: _containers.RepeatedScalarFieldContainer[str]
    model: str
    def __init__(self, since_sequence: _Optional[int] = ..., kinds: _Optional[_Iterable[str]] = ..., model: _Optional[str] = ...) -> None: ...

class WatchEventsResponse(_message.Message):
    __slots__ = ("event",)
    EVENT_FIELD_NUMBER: _ClassVar[int]
    event: _event_pb2.Event
    def __init__(self, event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ...) -> None: ...
