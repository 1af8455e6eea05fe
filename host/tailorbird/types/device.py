"""What is known of a device. A sensor that is absent is None here and "unavailable" on screen, never 0."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One sensor: its name with the unit in it (`temperature_c`), the value or None, where it was read."""

    name: str
    value: float | None
    source: str

    def __str__(self) -> str:
        return "unavailable" if self.value is None else f"{self.value:g}"


@dataclass(frozen=True, slots=True)
class Cache:
    """One CPU cache: level 1-4, kind ("Data", "Instruction", "Unified"), size and how many cores share it."""

    level: int
    kind: str
    size_bytes: int
    shared_by: int


@dataclass(frozen=True, slots=True)
class DeviceCard:
    """The device's identity: what does not change while it runs."""

    name: str
    agent_version: str
    machine: str  # uname -m: x86_64, aarch64, armv7l
    triple: str  # LLVM triple: x86_64-linux-gnu
    cpu_model: str
    llvm_cpu: str  # value for LLVM's -mcpu, "" when unknown
    cores: int
    isa_features: tuple[str, ...]
    caches: tuple[Cache, ...]
    memory_bytes: int
    libc: str  # glibc 2.36
    kernel: str
    runtimes: tuple[tuple[str, str], ...]  # (("litert", "2.3.0"), ("tvm", "0.1.14.post1"))
    board: str | None = None  # device-tree model or DMI product name

    def runtime_version(self, runtime: str) -> str | None:
        """Version of an installed runtime, None when it is absent."""
        return dict(self.runtimes).get(runtime)


@dataclass(frozen=True, slots=True)
class Sensors:
    """The device's state at one moment."""

    readings: tuple[Reading, ...]

    def __getitem__(self, name: str) -> float | None:
        for reading in self.readings:
            if reading.name == name:
                return reading.value
        return None
