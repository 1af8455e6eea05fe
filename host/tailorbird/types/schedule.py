"""Schedules of kernels: what was scheduled, for which boards, how, and what it took there."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from tailorbird.types.device import DeviceCard

#: `source` of a record. default: TVM's own plain loops, without any schedule.
SOURCES = ("default", "exact", "anchor", "transfer", "search", "import")


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """One measured (or failed) schedule of one kernel. Everything needed to replay it is plain text.

    target: CPU and thread count the kernel was compiled for; workload: structural hash of the kernel;
    kernel_class: kernels of one class have the same loops and take each other's decisions; extents: the loops' lengths;
    sketch: which of the class's program shapes; decisions_json: what was chosen in it, in order;
    trace_json: MetaSchedule's own trace; cpu_us: median microseconds per call, on-CPU for one thread, wall for several,
    None when it failed, see error. run_us: all run times behind cpu_us; environment: the device's state as it was
    measured; batch: candidates of one batch share a name; source: one of SOURCES.
    """

    target: str
    workload: str
    kernel_class: str
    extents: tuple[int, ...]
    sketch: int
    decisions_json: str
    trace_json: str
    cpu_us: float | None
    verdict: str = "ok"
    error: str = ""
    compiler: str = ""  # "apache-tvm 0.27.0.post1"
    run_us: tuple[float, ...] = ()
    environment: tuple[tuple[str, str], ...] = field(default=())
    batch: str = ""
    source: str = "search"


@dataclass(frozen=True, slots=True)
class Workload:
    """A kernel as the schedule store knows it.

    key: structural hash, hexadecimal; anchor: the same of the kernel without what is fused to its main block ("" when
    it has none); pattern: how the main block reads its tensors, see tune.workload: kernels of one pattern take each
    other's schedules; shape: lengths of the main block's loops; flops: per call; module_json: the kernel itself, which
    only the TVM release named by `compiler` is sure to read, "" when it was never stored.
    """

    key: str
    anchor: str
    pattern: str
    shape: tuple[int, ...]
    flops: float
    name: str = ""
    module_json: str = ""
    compiler: str = ""


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Boards on which a schedule takes the same time: one CPU, used with one number of threads.

    Fields that nobody knows (records of a foreign database) are "" and 0. caches: bytes of L1 data, L2 and L3.
    """

    triple: str
    llvm_cpu: str
    threads: int = 1
    cpu_model: str = ""
    cores: int = 0
    isa_features: tuple[str, ...] = ()
    caches: tuple[int, int, int] = (0, 0, 0)

    @property
    def name(self) -> str:
        """Key in the store: CPU, threads, and a digest of the rest where the rest is known."""
        words = [self.llvm_cpu or self.triple.partition("-")[0], f"t{self.threads}"]
        if self.cpu_model or self.cores:
            facts = (self.triple, self.cpu_model, self.cores, self.isa_features, self.caches)
            words.append(hashlib.sha256(repr(facts).encode()).hexdigest()[:8])
        return "-".join(words)

    @property
    def vector_bits(self) -> int:
        """Width of the widest vectors, 0 when the features are not known."""
        if not self.isa_features:
            return 0
        for feature, bits in (("avx512f", 512), ("avx2", 256), ("avx", 256)):
            if feature in self.isa_features:
                return bits
        return 128

    @classmethod
    def of_card(cls, card: DeviceCard, threads: int) -> DeviceClass:
        """The class of the board that shows this card, when a kernel may use `threads` of its cores."""
        data = {cache.level: cache.size_bytes for cache in card.caches if cache.kind != "Instruction"}
        caches = (data.get(1, 0), data.get(2, 0), data.get(3, 0))
        features = tuple(sorted(card.isa_features))
        return cls(card.triple, card.llvm_cpu, threads, card.cpu_model, card.cores, features, caches)

    @classmethod
    def from_target(cls, target: str) -> DeviceClass:
        """The class that a record's `target` text names, all other facts unknown."""
        found = re.fullmatch(r"(\S+) (\S+) threads=(\d+)", target)
        if found is None:
            return cls(target, "")
        cpu = "" if found[2] == "generic" else found[2]
        return cls(found[1], cpu, int(found[3]))
