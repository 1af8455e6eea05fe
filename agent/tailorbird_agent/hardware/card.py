"""The device card: what identifies a device and does not change while the agent runs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tailorbird_agent.hardware.cache import Cache, read_caches
from tailorbird_agent.hardware.cpu import read_cpu
from tailorbird_agent.hardware.llvm import libc, triple, user_machine
from tailorbird_agent.hardware.memory import meminfo_bytes
from tailorbird_agent.hardware.tree import Tree, cpu_list

# Runtime -> distributions that provide it, the preferred first.
_RUNTIMES = {"tvm": ("apache-tvm-ffi",), "litert": ("ai-edge-litert", "tflite-runtime")}
# Firmware that was never told its board's name says so in these words.
_NO_NAME = frozenset({"", "none", "default string", "to be filled by o.e.m.", "system product name"})


@dataclass(frozen=True, slots=True)
class Card:
    """Identity of the device; llvm_cpu is "" and board None when unknown, memory_bytes 0 when /proc is absent."""

    name: str
    agent_version: str
    machine: str
    triple: str
    cpu_model: str
    llvm_cpu: str
    cores: int
    isa_features: tuple[str, ...]
    caches: tuple[Cache, ...]
    memory_bytes: int
    libc: str
    kernel: str
    runtimes: tuple[tuple[str, str], ...]
    board: str | None = None


def read_card(
    agent_version: str, *, name: str | None = None, root: Path | str = "/", machine: str | None = None
) -> Card:
    """Read the card from the files below root; name defaults to the host name, machine to this process's."""
    tree = Tree(root)
    machine = machine or user_machine()
    cpu = read_cpu(tree)
    libc_name = libc(tree)
    return Card(
        name=name or platform.node() or "device",
        agent_version=agent_version,
        machine=machine,
        triple=triple(machine, libc_name),
        cpu_model=cpu.model,
        llvm_cpu=cpu.llvm_cpu,
        cores=usable_cores(tree),
        isa_features=cpu.features,
        caches=read_caches(tree),
        memory_bytes=meminfo_bytes(tree).get("MemTotal", 0),
        libc=libc_name,
        kernel=tree.text("/proc/sys/kernel/osrelease") or platform.release(),
        runtimes=installed_runtimes(agent_version),
        board=_board(tree),
    )


def usable_cores(tree: Tree) -> int:
    """Cores this process may run on (its affinity, not the machine's count)."""
    for line in (tree.text("/proc/self/status") or "").splitlines():
        if line.startswith("Cpus_allowed_list:"):
            cores = len(cpu_list(line.partition(":")[2].strip()))
            if cores:
                return cores
    return len(os.sched_getaffinity(0))


def installed_runtimes(agent_version: str) -> tuple[tuple[str, str], ...]:
    """(runtime, version) of what is installed, sorted; read from package metadata, nothing is imported."""
    found = {"reference": agent_version}
    for runtime, distributions in _RUNTIMES.items():
        for distribution in distributions:
            try:
                found[runtime] = metadata.version(distribution)
                break
            except metadata.PackageNotFoundError:
                continue
    return tuple(sorted(found.items()))


def _board(tree: Tree) -> str | None:
    for path in ("/proc/device-tree/model", "/sys/class/dmi/id/product_name"):
        board = tree.text(path)
        if board is not None and board.lower() not in _NO_NAME:
            return board
    return None
