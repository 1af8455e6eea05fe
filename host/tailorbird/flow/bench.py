"""Modules that somebody wants timed: a .tflite file, or rungs of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tailorbird.bundle import Bundle
from tailorbird.device import Comparison, Device, Lease
from tailorbird.device.measure import OnResult
from tailorbird.errors import DeviceUnreachableError, MissingFileError, UsageError
from tailorbird.flow.workspace import Note, silent
from tailorbird.types import DATATYPES, Candidate, Measurement, ModuleKind, TensorSpec, TimingProtocol

_KINDS = {"tvm": ModuleKind.TVM_MODEL, "litert": ModuleKind.LITERT_MODEL}


@dataclass(frozen=True, slots=True)
class Subject:
    """A module, and the runtime library it needs (None: the device has it installed)."""

    candidate: Candidate
    runtime_library: Path | None = None

    @property
    def label(self) -> str:
        """What it is called in results."""
        return self.candidate.label


@dataclass(frozen=True, slots=True)
class Timed:
    """Measurements in order. lost: why the device went away before all were taken, None when it did not."""

    measurements: tuple[Measurement, ...]
    lost: DeviceUnreachableError | None = None


def subjects(name: str) -> tuple[Subject, ...]:
    """What FILE.tflite, BUNDLE or BUNDLE:rung stands for; a bundle without a rung is all its rungs.

    BUNDLE is a bundle's folder or the artifact folder of `compile`.

    Raises:
        MissingFileError: there is no such file or folder.
        UsageError: it has no such rung, or the rung cannot be timed alone.
        BundleError: the bundle is damaged.
    """
    where, _, rung = name.partition(":")
    path = Path(where)
    if path.is_file():
        return (_file(path),)
    if not path.is_dir():
        raise MissingFileError(
            f"there is nothing to time at {where}",
            why="it is neither a file nor a folder",
            fix="name a .tflite file, or BUNDLE:rung with the folder that `compile` printed",
        )
    bundle = Bundle.load(path / "bundle" if (path / "bundle").is_dir() else path)
    rungs = {each.name: each for each in bundle.manifest.rungs}
    if rung and rung not in rungs:
        raise UsageError(f"the bundle has no rung {rung!r}", why=f"its rungs are {', '.join(rungs)}")
    return tuple(_rung(bundle, each) for each in ([rung] if rung else rungs))


def subject(name: str) -> Subject:
    """The one module a name stands for. Raises as `subjects`, and UsageError when there are several."""
    first, *others = subjects(name)
    if others:
        raise UsageError(
            f"{name} holds {1 + len(others)} rungs",
            why="one at a time can be compared",
            fix=f"name one, e.g. {name}:{first.label.rpartition(':')[2]}",
        )
    return first


def time_all(device: Device, chosen: tuple[Subject, ...], protocol: TimingProtocol, note: Note = silent) -> Timed:
    """Time modules one after the other. A device that goes away costs those still to come: the others are kept.

    Raises:
        DeviceError: the agent refused; LeaseError: somebody else measures there.
    """
    done: list[Measurement] = []

    def keep(_index: int, measurement: Measurement) -> None:
        done.append(measurement)
        note(f"{len(done)} of {len(chosen)} timed")

    try:
        with device.lease() as lease:
            for each in chosen:
                _time(device, lease, each, protocol, keep)
    except DeviceUnreachableError as error:
        if not done:
            raise
        return Timed(tuple(done), error)
    return Timed(tuple(done))


def _time(device: Device, lease: Lease, each: Subject, protocol: TimingProtocol, keep: OnResult) -> None:
    device.measure([each.candidate], protocol, runtime_library=each.runtime_library, lease=lease, on_result=keep)


def compare(device: Device, first: Subject, second: Subject, protocol: TimingProtocol) -> Comparison:
    """Time two modules in turns. Raises DeviceError, LeaseError."""
    library = first.runtime_library or second.runtime_library
    return device.compare(first.candidate, second.candidate, protocol, runtime_library=library)


def _rung(bundle: Bundle, name: str) -> Subject:
    manifest = bundle.manifest
    rung = next(each for each in manifest.rungs if each.name == name)
    kind = _KINDS.get(rung.artifact.runtime)
    if kind is None or rung.artifact.parameters:
        why = "its parameters lie beside the module" if kind else f"it is for the runtime {rung.artifact.runtime}"
        raise UsageError(f"rung {name} cannot be timed alone", why=why, fix="deploy it, and see its requests' times")
    content = bundle.blobs[rung.artifact.blob.sha256]
    module = content if isinstance(content, bytes) else content.read_bytes()
    libraries = [each.blob.sha256 for each in manifest.runtime_blobs if each.runtime == rung.artifact.runtime]
    library = bundle.blobs[libraries[0]] if libraries else None
    label = f"{manifest.model}:{name}"
    return Subject(Candidate(kind, module, manifest.inputs, label), library if isinstance(library, Path) else None)


def _file(path: Path) -> Subject:
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise UsageError(
            f"{path} is no .tflite file", why="its first bytes say so", fix="name a .tflite file, or BUNDLE:rung"
        )
    return Subject(Candidate(ModuleKind.LITERT_MODEL, data, _inputs(path, data), path.name))


def _inputs(path: Path, data: bytes) -> tuple[TensorSpec, ...]:
    from ai_edge_litert.interpreter import Interpreter

    names = {np.dtype(dtype): name for name, (dtype, _) in DATATYPES.items()}
    try:
        details = Interpreter(model_content=data).get_input_details()
        return tuple(
            TensorSpec(str(each["name"]), names[np.dtype(each["dtype"])], tuple(int(x) for x in each["shape"]))
            for each in details
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise UsageError(f"{path} cannot be timed", why=f"its inputs cannot be read: {error}") from error
