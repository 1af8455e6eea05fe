from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Cache(_message.Message):
    __slots__ = ("level", "kind", "size_bytes", "shared_by")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHARED_BY_FIELD_NUMBER: _ClassVar[int]
    level: int
    kind: str
    size_bytes: int
    shared_by: int
    def __init__(self, level: _Optional[int] = ..., kind: _Optional[str] = ..., size_bytes: _Optional[int] = ..., shared_by: _Optional[int] = ...) -> None: ...

class Runtime(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DeviceCard(_message.Message):
    __slots__ = ("name", "agent_version", "machine", "triple", "cpu_model", "llvm_cpu", "cores", "isa_features", "caches", "memory_bytes", "libc", "kernel", "runtimes", "board")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    TRIPLE_FIELD_NUMBER: _ClassVar[int]
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    LLVM_CPU_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    ISA_FEATURES_FIELD_NUMBER: _ClassVar[int]
    CACHES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIBC_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    BOARD_FIELD_NUMBER: _ClassVar[int]
    name: str
    agent_version: str
    machine: str
    triple: str
    cpu_model: str
    llvm_cpu: str
    cores: int
    isa_features: _containers.RepeatedScalarFieldContainer[str]
    caches: _containers.RepeatedCompositeFieldContainer[Cache]
    memory_bytes: int
    libc: str
    kernel: str
    runtimes: _containers.RepeatedCompositeFieldContainer[Runtime]
    board: str
    def __init__(self, name: _Optional[str] = ..., agent_version: _Optional[str] = ..., machine: _Optional[str] = ..., triple: _Optional[str] = ..., cpu_model: _Optional[str] = ..., llvm_cpu: _Optional[str] = ..., cores: _Optional[int] = ..., isa_features: _Optional[_Iterable[str]] = ..., caches: _Optional[_Iterable[_Union[Cache, _Mapping]]] = ..., memory_bytes: _Optional[int] = ..., libc: _Optional[str] = ..., kernel: _Optional[str] = ..., runtimes: _Optional[_Iterable[_Union[Runtime, _Mapping]]] = ..., board: _Optional[str] = ...) -> None: ...

class Reading(_message.Message):
    __slots__ = ("name", "value", "source")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    source: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., source: _Optional[str] = ...) -> None: ...
