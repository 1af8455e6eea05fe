from tailorbird_api.types.v1 import measurement_pb2 as _measurement_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BlobRef(_message.Message):
    __slots__ = ("sha256", "size_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class RuntimeBlob(_message.Message):
    __slots__ = ("runtime", "version", "blob")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    version: str
    blob: BlobRef
    def __init__(self, runtime: _Optional[str] = ..., version: _Optional[str] = ..., blob: _Optional[_Union[BlobRef, _Mapping]] = ...) -> None: ...

class RuntimeRequirement(_message.Message):
    __slots__ = ("runtime", "version")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    version: str
    def __init__(self, runtime: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Compatible(_message.Message):
    __slots__ = ("triple", "libc", "isa_features", "runtimes")
    TRIPLE_FIELD_NUMBER: _ClassVar[int]
    LIBC_FIELD_NUMBER: _ClassVar[int]
    ISA_FEATURES_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    triple: str
    libc: str
    isa_features: _containers.RepeatedScalarFieldContainer[str]
    runtimes: _containers.RepeatedCompositeFieldContainer[RuntimeRequirement]
    def __init__(self, triple: _Optional[str] = ..., libc: _Optional[str] = ..., isa_features: _Optional[_Iterable[str]] = ..., runtimes: _Optional[_Iterable[_Union[RuntimeRequirement, _Mapping]]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("runtime", "blob", "parameters")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    blob: BlobRef
    parameters: _containers.RepeatedCompositeFieldContainer[BlobRef]
    def __init__(self, runtime: _Optional[str] = ..., blob: _Optional[_Union[BlobRef, _Mapping]] = ..., parameters: _Optional[_Iterable[_Union[BlobRef, _Mapping]]] = ...) -> None: ...

class Rung(_message.Message):
    __slots__ = ("name", "config_json", "artifact", "precision", "threads", "batch", "accuracy", "cpu_us", "golden", "tolerance", "memory_bytes", "timings")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONFIG_JSON_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    config_json: str
    artifact: Artifact
    precision: str
    threads: int
    batch: int
    accuracy: float
    cpu_us: float
    golden: BlobRef
    tolerance: float
    memory_bytes: int
    timings: _containers.RepeatedCompositeFieldContainer[RuntimeTiming]
    def __init__(self, name: _Optional[str] = ..., config_json: _Optional[str] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ..., precision: _Optional[str] = ..., threads: _Optional[int] = ..., batch: _Optional[int] = ..., accuracy: _Optional[float] = ..., cpu_us: _Optional[float] = ..., golden: _Optional[_Union[BlobRef, _Mapping]] = ..., tolerance: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., timings: _Optional[_Iterable[_Union[RuntimeTiming, _Mapping]]] = ...) -> None: ...

class RuntimeTiming(_message.Message):
    __slots__ = ("runtime", "cpu_us")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    cpu_us: float
    def __init__(self, runtime: _Optional[str] = ..., cpu_us: _Optional[float] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("schema", "model", "compatible", "inputs", "outputs", "rungs", "golden_inputs", "runtime_blobs", "min_agent_version", "slo_us", "created_by", "signatures")
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COMPATIBLE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    RUNGS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_INPUTS_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_BLOBS_FIELD_NUMBER: _ClassVar[int]
    MIN_AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SLO_US_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    schema: str
    model: str
    compatible: Compatible
    inputs: _containers.RepeatedCompositeFieldContainer[_measurement_pb2.TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[_measurement_pb2.TensorSpec]
    rungs: _containers.RepeatedCompositeFieldContainer[Rung]
    golden_inputs: BlobRef
    runtime_blobs: _containers.RepeatedCompositeFieldContainer[RuntimeBlob]
    min_agent_version: str
    slo_us: float
    created_by: str
    signatures: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, schema: _Optional[str] = ..., model: _Optional[str] = ..., compatible: _Optional[_Union[Compatible, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_measurement_pb2.TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[_measurement_pb2.TensorSpec, _Mapping]]] = ..., rungs: _Optional[_Iterable[_Union[Rung, _Mapping]]] = ..., golden_inputs: _Optional[_Union[BlobRef, _Mapping]] = ..., runtime_blobs: _Optional[_Iterable[_Union[RuntimeBlob, _Mapping]]] = ..., min_agent_version: _Optional[str] = ..., slo_us: _Optional[float] = ..., created_by: _Optional[str] = ..., signatures: _Optional[_Iterable[str]] = ...) -> None: ...
