"""Runtimes: what loads a module and runs it, in worker processes only.

`available` tells what is installed without importing it; `open_runtime` imports one.
"""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path

from tailorbird_agent.runtimes.base import Loaded, ModuleInvalidError, Runtime, RuntimeMissingError

__all__ = ["Loaded", "ModuleInvalidError", "Runtime", "RuntimeMissingError", "available", "open_runtime"]

#: Version of the reference runtime's module format, which is all there is to be compatible with.
REFERENCE_VERSION = "1"


def available() -> tuple[tuple[str, str], ...]:
    """(runtime, version) of what workers can load here, sorted; imports neither numpy nor any runtime.

    The version of `tvm` is that of its function interface: the runtime library itself arrives as a blob.
    """
    if util.find_spec("numpy") is None:
        return ()
    found = {"reference": REFERENCE_VERSION, "litert": _litert_version(), "tvm": _version("apache-tvm-ffi")}
    return tuple(sorted((name, version) for name, version in found.items() if version))


def open_runtime(name: str, library: Path | None = None) -> Runtime:
    """Import a runtime; library is its shared library where it needs one (tvm).

    Raises:
        RuntimeMissingError: unknown, not installed, or its library is absent.
    """
    if name == "reference":
        from tailorbird_agent.runtimes.reference import ReferenceRuntime

        return ReferenceRuntime()
    if name == "litert":
        from tailorbird_agent.runtimes.litert import LiteRtRuntime

        return LiteRtRuntime()
    if name == "tvm":
        from tailorbird_agent.runtimes.tvm import TvmRuntime

        return TvmRuntime(library)
    raise RuntimeMissingError(f"this agent has no runtime {name!r}; it has: {_names()}")


def _litert_version() -> str | None:
    """ai-edge-litert, or its predecessor tflite-runtime, which was built for numpy 1."""
    version = _version("ai-edge-litert")
    if version is not None:
        return version
    numpy = _version("numpy")
    return _version("tflite-runtime") if numpy is not None and int(numpy.split(".")[0]) < 2 else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _names() -> str:
    return ", ".join(name for name, _ in available()) or "none"
