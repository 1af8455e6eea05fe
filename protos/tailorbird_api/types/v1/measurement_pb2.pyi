from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModuleKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODULE_KIND_UNSPECIFIED: _ClassVar[ModuleKind]
    MODULE_KIND_TVM_KERNEL: _ClassVar[ModuleKind]
    MODULE_KIND_TVM_MODEL: _ClassVar[ModuleKind]
    MODULE_KIND_LITERT_MODEL: _ClassVar[ModuleKind]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_OK: _ClassVar[Verdict]
    VERDICT_NOISY: _ClassVar[Verdict]
    VERDICT_CONTENDED: _ClassVar[Verdict]
    VERDICT_THROTTLED: _ClassVar[Verdict]
    VERDICT_UNSTABLE: _ClassVar[Verdict]
MODULE_KIND_UNSPECIFIED: ModuleKind
MODULE_KIND_TVM_KERNEL: ModuleKind
MODULE_KIND_TVM_MODEL: ModuleKind
MODULE_KIND_LITERT_MODEL: ModuleKind
VERDICT_UNSPECIFIED: Verdict
VERDICT_OK: Verdict
VERDICT_NOISY: Verdict
VERDICT_CONTENDED: Verdict
VERDICT_THROTTLED: Verdict
VERDICT_UNSTABLE: Verdict

class TensorSpec(_message.Message):
    __slots__ = ("name", "datatype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class TimingProtocol(_message.Message):
    __slots__ = ("mode", "min_runs", "min_time_ms", "max_time_ms", "threads")
    MODE_FIELD_NUMBER: _ClassVar[int]
    MIN_RUNS_FIELD_NUMBER: _ClassVar[int]
    MIN_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    mode: str
    min_runs: int
    min_time_ms: int
    max_time_ms: int
    threads: int
    def __init__(self, mode: _Optional[str] = ..., min_runs: _Optional[int] = ..., min_time_ms: _Optional[int] = ..., max_time_ms: _Optional[int] = ..., threads: _Optional[int] = ...) -> None: ...

class GoldenAnswers(_message.Message):
    __slots__ = ("inputs_sha256", "outputs_sha256", "outputs", "relative_tolerance", "absolute_tolerance")
    INPUTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_SHA256_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    ABSOLUTE_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    inputs_sha256: str
    outputs_sha256: str
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    relative_tolerance: float
    absolute_tolerance: float
    def __init__(self, inputs_sha256: _Optional[str] = ..., outputs_sha256: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., relative_tolerance: _Optional[float] = ..., absolute_tolerance: _Optional[float] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("kind", "sha256", "args", "label", "symbol", "deadline_us", "check", "uniform_args", "golden")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    UNIFORM_ARGS_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    kind: ModuleKind
    sha256: str
    args: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    label: str
    symbol: str
    deadline_us: float
    check: bool
    uniform_args: _containers.RepeatedScalarFieldContainer[int]
    golden: GoldenAnswers
    def __init__(self, kind: _Optional[_Union[ModuleKind, str]] = ..., sha256: _Optional[str] = ..., args: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., label: _Optional[str] = ..., symbol: _Optional[str] = ..., deadline_us: _Optional[float] = ..., check: bool = ..., uniform_args: _Optional[_Iterable[int]] = ..., golden: _Optional[_Union[GoldenAnswers, _Mapping]] = ...) -> None: ...

class Measurement(_message.Message):
    __slots__ = ("label", "wall_us", "cpu_us", "verdict", "verdict_reason", "error", "environment", "delay_us", "blocks", "sums")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LABEL_FIELD_NUMBER: _ClassVar[int]
    WALL_US_FIELD_NUMBER: _ClassVar[int]
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    DELAY_US_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    SUMS_FIELD_NUMBER: _ClassVar[int]
    label: str
    wall_us: _containers.RepeatedScalarFieldContainer[float]
    cpu_us: _containers.RepeatedScalarFieldContainer[float]
    verdict: Verdict
    verdict_reason: str
    error: str
    environment: _containers.ScalarMap[str, str]
    delay_us: _containers.RepeatedScalarFieldContainer[float]
    blocks: _containers.RepeatedScalarFieldContainer[int]
    sums: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, label: _Optional[str] = ..., wall_us: _Optional[_Iterable[float]] = ..., cpu_us: _Optional[_Iterable[float]] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., verdict_reason: _Optional[str] = ..., error: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., delay_us: _Optional[_Iterable[float]] = ..., blocks: _Optional[_Iterable[int]] = ..., sums: _Optional[_Iterable[float]] = ...) -> None: ...
