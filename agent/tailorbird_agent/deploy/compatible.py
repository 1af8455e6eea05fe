"""Whether a bundle can run on this device, decided from the card and from the bytes, before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from tailorbird_agent.deploy.manifest import Manifest
from tailorbird_agent.errors import BundleError

ELF_MAGIC = b"\x7fELF"
# e_machine values of the ELF specification and the architecture names of LLVM triples that mean them.
ELF_MACHINES = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "i386": "i686", "i586": "i686"}


class Device(Protocol):
    """The part of a device card that compatibility depends on."""

    @property
    def triple(self) -> str:
        """LLVM triple."""
        ...

    @property
    def libc(self) -> str:
        """Name and version of the C library."""
        ...

    @property
    def isa_features(self) -> tuple[str, ...]:
        """CPU features as the kernel names them."""
        ...

    @property
    def runtimes(self) -> tuple[tuple[str, str], ...]:
        """Installed runtimes and their versions."""
        ...

    @property
    def agent_version(self) -> str:
        """Version of this agent."""
        ...


def check_compatible(manifest: Manifest, device: Device) -> None:
    """Refuse a bundle whose manifest asks for what the device lacks.

    Raises:
        BundleError: AGENT_TOO_OLD, INCOMPATIBLE_TRIPLE, INCOMPATIBLE_LIBC, INCOMPATIBLE_ISA, RUNTIME_MISSING.
    """
    if version(manifest.min_agent_version) > version(device.agent_version):
        raise BundleError("AGENT_TOO_OLD", f"It needs {manifest.min_agent_version}, this is {device.agent_version}.")
    wanted = manifest.compatible
    if wanted.triple and _platform(wanted.triple) != _platform(device.triple):
        raise BundleError(
            "INCOMPATIBLE_TRIPLE",
            f"It was built for {wanted.triple}, this device is {device.triple}.",
            wanted=wanted.triple,
            device=device.triple,
        )
    if wanted.libc and not _libc_suffices(wanted.libc, device.libc):
        raise BundleError(
            "INCOMPATIBLE_LIBC", f"It needs {wanted.libc}, this device has {device.libc or 'an unknown one'}."
        )
    missing = sorted(set(wanted.isa_features) - set(device.isa_features))
    if missing:
        raise BundleError("INCOMPATIBLE_ISA", f"Missing: {', '.join(missing)}.", missing=",".join(missing))
    _check_runtimes(manifest, dict(device.runtimes))


def check_modules(paths: Iterable[tuple[str, Path]], device: Device) -> None:
    """Refuse a native library for another machine, whatever the manifest claims. paths: (what it is, file).

    Raises:
        BundleError: INCOMPATIBLE_TRIPLE; MODULE_INVALID for a truncated header.
    """
    ours = _platform(device.triple)[0]
    for what, path in paths:
        with path.open("rb") as file:
            header = file.read(20)
        if not header.startswith(ELF_MAGIC):
            continue
        if len(header) < 20:
            raise BundleError("MODULE_INVALID", f"{what} ends inside its ELF header.")
        number = int.from_bytes(header[18:20], "big" if header[5] == 2 else "little")
        machine = ELF_MACHINES.get(number, f"ELF machine {number}")
        if machine != ours:
            raise BundleError(
                "INCOMPATIBLE_TRIPLE",
                f"{what} holds {machine} code, this device is {device.triple}.",
                wanted=machine,
                device=device.triple,
            )


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version, in order: "0.27.0.post1" is (0, 27, 0, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _check_runtimes(manifest: Manifest, installed: Mapping[str, str]) -> None:
    supplied = {(library.runtime, library.version) for library in manifest.runtime_blobs}
    for name in sorted({rung.runtime for rung in manifest.rungs}):
        # A shipped library is the native half; the plug-in that calls it has to be installed.
        if name not in installed:
            raise BundleError("RUNTIME_MISSING", f'"{name}" is not installed.', runtime=name)
    for name, wanted in manifest.compatible.runtimes:
        offered = {each for runtime, each in supplied if runtime == name}
        if name in installed:
            offered.add(installed[name])
        if not offered or (wanted and wanted not in offered):
            have = ", ".join(sorted(offered)) or "none"
            raise BundleError("RUNTIME_MISSING", f'It needs "{name}" {wanted}; here: {have}.', runtime=name)


def _platform(triple: str) -> tuple[str, str]:
    """Architecture and environment of a triple; the vendor ("pc", "unknown") says nothing about code."""
    parts = [part for part in triple.lower().split("-") if part not in {"unknown", "pc", "none"}]
    architecture = ARCHITECTURES.get(parts[0], parts[0]) if parts else ""
    if architecture.startswith(("armv", "arm")) and architecture != "arm64":
        architecture = "arm"
    return architecture, "-".join(parts[1:])


def _libc_suffices(wanted: str, present: str) -> bool:
    wanted_name, _, wanted_version = wanted.partition(" ")
    present_name, _, present_version = present.partition(" ")
    return wanted_name == present_name and version(wanted_version) <= version(present_version)
