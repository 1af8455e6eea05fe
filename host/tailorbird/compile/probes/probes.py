"""Which probes a device gets, how they are built for it, and what their times mean."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import linker
from tailorbird.errors import CompileError
from tailorbird.types import Candidate, DeviceCard, Measurement, ModuleKind

_SOURCE = Path(__file__).with_name("probe.c")
#: Multiply-adds of one call of a GEMM probe count twice: ROWS, COLUMNS, DEPTH and REPEATS of probe.c.
_GEMM_OPERATIONS = 2 * 96 * 128 * 192 * 4
_CHASE_LOADS = 65536
_LINE_BYTES = 64
_MEMORY_BYTES = 64 << 20
_MOST_BYTES = 256 << 20

# CPU features as the kernel names them -> what the C compiler calls them.
_X86 = {
    "avx": "-mavx",
    "avx2": "-mavx2",
    "fma": "-mfma",
    "f16c": "-mf16c",
    "avx512f": "-mavx512f",
    "avx512bw": "-mavx512bw",
    "avx512dq": "-mavx512dq",
    "avx512vl": "-mavx512vl",
    "avx512_vnni": "-mavx512vnni",
    "avx512_bf16": "-mavx512bf16",
    "avx512_fp16": "-mavx512fp16",
    "avx_vnni": "-mavxvnni",
}
_ARM = {"asimdhp": "+fp16", "asimddp": "+dotprod", "bf16": "+bf16"}


class ProbeUnavailableError(CompileError):
    """The device's CPU lacks what the probe is about."""

    default_reason = "PROBE_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Probe:
    """One program. work: operations, bytes or loads of a call; shared: the threads divide it, else each does it all."""

    name: str
    unit: str
    flags: tuple[str, ...]
    work: float
    shared: bool = False
    scales: bool = False

    def value(self, measurement: Measurement, threads: int) -> float:
        """The figure: work per time (GFLOP/s, GOP/s, GB/s), or time per load (ns)."""
        ns = measurement.cpu_median_us * 1e3
        if self.unit == "ns":
            return ns / self.work
        return self.work * (1 if self.shared else threads) / ns


def probes_for(card: DeviceCard) -> tuple[Probe, ...]:
    """The probes that make sense on a device, arrays sized by its caches and memory."""
    data = sorted({(c.level, c.size_bytes) for c in card.caches if c.kind != "Instruction"})
    sizes = dict(data)
    most = min(_MOST_BYTES, (card.memory_bytes or 16 * _MEMORY_BYTES) // 16)
    beyond = min(most, max(4 * max(sizes.values(), default=0), _MEMORY_BYTES))
    gemms = [
        Probe(f"gemm-{kind}", unit, (f"-DPROBE_GEMM_{kind.upper()}",), _GEMM_OPERATIONS, scales=kind == "fp32")
        for kind, unit in (("fp32", "GFLOP/s"), ("fp16", "GFLOP/s"), ("bf16", "GFLOP/s"), ("int8", "GOP/s"))
    ]
    count = beyond // 8
    triad = Probe(
        "stream-triad", "GB/s", ("-DPROBE_TRIAD", f"-DCOUNT={count}L"), 24.0 * count, shared=True, scales=True
    )
    # Half of a cache: the other half is for whoever else is there. A level seen by many cores is shared by them.
    spans = {f"latency-l{level}": size // 2 for level, size in sizes.items() if size // 2 <= most}
    chases = [_chase(name, size) for name, size in (*spans.items(), ("latency-memory", beyond))]
    return (*gemms, triad, *chases)


def build(probe: Probe, target: CompileTarget) -> Candidate:
    """Compile a probe for a device.

    Raises:
        ProbeUnavailableError: its CPU lacks the instructions.
        CompileError: the compiler refuses; EnvironmentFaultError: there is none for this target.
    """
    with tempfile.TemporaryDirectory(prefix="tailorbird-probe-") as folder:
        library = Path(folder) / "probe.so"
        options = [
            "-O3",
            "-std=gnu11",
            "-ffp-contract=fast",
            "-funroll-loops",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
        ]
        command = [linker(target), *options, *_machine_flags(target), *probe.flags]
        done = subprocess.run([*command, "-o", str(library), str(_SOURCE)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            _refuse(probe, target, done.stderr)
        return Candidate(ModuleKind.TVM_KERNEL, library.read_bytes(), (), probe.name)


def _chase(name: str, size_bytes: int) -> Probe:
    lines = max(2, size_bytes // _LINE_BYTES)
    return Probe(name, "ns", ("-DPROBE_CHASE", f"-DLINES={lines}u"), _CHASE_LOADS)


def _machine_flags(target: CompileTarget) -> list[str]:
    features = set(target.isa_features)
    if target.machine == "x86_64":
        return [flag for name, flag in _X86.items() if name in features]
    if target.machine == "aarch64":
        extensions = "".join(flag for name, flag in _ARM.items() if name in features)
        return [f"-march=armv8.2-a{extensions}"] if extensions else ["-march=armv8-a"]
    return ["-mfpu=neon-vfpv4", "-mfloat-abi=hard"] if "neon" in features else []


def _refuse(probe: Probe, target: CompileTarget, errors: str) -> None:
    _, unavailable, why = errors.partition("UNAVAILABLE: ")
    if unavailable:
        raise ProbeUnavailableError(f"{probe.name} is unavailable", why=why.splitlines()[0].strip(' "'))
    raise CompileError(f"{probe.name} cannot be built for {target.triple}", why=errors.strip()[-400:])
