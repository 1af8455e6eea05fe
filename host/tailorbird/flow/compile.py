"""From a ladder to a bundle: every rung built for every runtime of the device, checked, measured there, the best kept.

compile.json   each build with its time on the device and its error against torch, and what tuning did
ladder.json    the rungs as measured
bundle/        manifest and blobs
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from tailorbird.bundle import BuiltRung, Bundle, RuntimeLibrary, Tensors, pack
from tailorbird.cache import StageResult
from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import Network as Captured
from tailorbird.compile.capture import capture
from tailorbird.compile.verify import Verification, verify
from tailorbird.device import Device, Lease
from tailorbird.document import dump_document
from tailorbird.errors import CompileError, DeviceError, GateError
from tailorbird.flow.artifact import read_document
from tailorbird.flow.data import Splits
from tailorbird.flow.search import LADDER_SCHEMA, LadderDocument, SearchOutcome, card_identity
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.search import slo_from
from tailorbird.supernet import SuperNet
from tailorbird.types import Candidate, Ladder, Measurement, Rung, TimingProtocol
from tailorbird.units import time_words

COMPILE_SCHEMA = "tailorbird.compile/1"
_STAGE = "compile"
_GOLDEN = 6
_LEASE_WAIT_S = 3600.0
_RUNG = TimingProtocol("rung", min_runs=60, min_seconds=0.25, max_seconds=4.0)


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One rung built for one runtime. Times are medians per inference; a build that failed has `error` and no times."""

    runtime: str
    cpu_us: float | None
    wall_us: float | None
    verdict: str
    max_error: float | None
    tolerance: float | None
    seconds: float
    size_bytes: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class RungRecord:
    """A rung of the finished ladder, the runtime that ships, and all its builds."""

    name: str
    runtime: str
    builds: tuple[BuildRecord, ...]


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """Kernel tuning on the device: distinct kernels, those already known, candidates tried, those that failed."""

    kernels: int
    exact_hits: int
    trials: int
    failures: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CompileDocument:
    """compile.json. dropped: rungs of the search that turned out no faster than a more accurate one."""

    model: str
    device: str
    rungs: tuple[RungRecord, ...]
    dropped: tuple[str, ...]
    tuning: TuningRecord | None
    bundle: str
    bundle_bytes: int
    slo_us: float | None
    schema: str = COMPILE_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class CompileOutcome:
    """The measured ladder, its bundle, and how it came to be."""

    ladder: Ladder
    bundle: Bundle
    document: CompileDocument
    result: StageResult


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """A rung on its way through the compilers."""

    rung: Rung
    subnet: nn.Module
    captured: Captured


def compile_ladder(
    workspace: Workspace,
    found: SearchOutcome,
    splits: Splits,
    device: Device,
    *,
    tune_s: float | None = None,
    slo_us: float | None = None,
    note: Note = silent,
) -> CompileOutcome:
    """Build, tune, verify and measure every rung, and pack the ladder.

    tune_s: seconds of kernel tuning on the device, by default that of the settings. slo_us: by default the ladder's
    own, or one that its largest rung meets on a quiet device and misses on a busy one.

    Raises:
        CompileError: no runtime of the device can take a rung.
        GateError: the measured rungs do not make a ladder.
        DeviceError: the agent went away or refused to measure.
    """
    budget = workspace.settings.tune_s if tune_s is None else tune_s
    runtimes = usable_runtimes(workspace, device)
    slo_us = slo_us if slo_us is not None else found.ladder.slo_us
    inputs = {
        "search": found.result.key,
        "data": splits.sha256(),
        "device": card_identity(device.card),
        "runtimes": list(runtimes),
        "tune_s": budget,
        "slo_us": slo_us,
        "seed": workspace.settings.seed,
    }

    def build(folder: Path) -> None:
        _compile(workspace, found, splits, device, runtimes, budget, slo_us, folder, note)

    return open_compiled(workspace.cache.run(_STAGE, inputs, build))


def open_compiled(result: StageResult) -> CompileOutcome:
    """What `compile` left in a folder.

    Raises:
        MissingFileError: the folder is not of that stage.
        BundleError: its bundle is damaged.
    """
    made_by = "tailorbird compile"
    document = read_document(result.folder, "compile.json", CompileDocument, COMPILE_SCHEMA, made_by=made_by)
    ladder = read_document(result.folder, "ladder.json", LadderDocument, LADDER_SCHEMA, made_by=made_by).ladder
    return CompileOutcome(ladder, Bundle.load(result.folder / "bundle"), document, result)


def usable_runtimes(workspace: Workspace, device: Device) -> tuple[str, ...]:
    """The runtimes of the settings that the device has. Raises DeviceError when it has none of them."""
    wanted = workspace.settings.runtimes
    usable = tuple(name for name in wanted if device.card.runtime_version(name) is not None)
    if not usable:
        has = ", ".join(name for name, _ in device.card.runtimes) or "none"
        raise DeviceError(
            f"{device.name} has none of the runtimes {', '.join(wanted)}",
            why=f"its runtimes are {has}",
            fix="pip install 'tailorbird[agent-litert]' or '[agent-tvm]' there and restart its agent",
            reason="RUNTIME_MISSING",
        )
    return usable


def _compile(
    workspace: Workspace,
    found: SearchOutcome,
    splits: Splits,
    device: Device,
    runtimes: Sequence[str],
    budget_s: float,
    slo_us: float | None,
    folder: Path,
    note: Note,
) -> None:
    examples = [splits.validation[0][k : k + 1] for k in range(_GOLDEN)]
    ladder = replace(found.ladder, slo_us=slo_us)
    made = build_ladder(workspace, found.network.net, ladder, examples, device, runtimes, budget_s, note)
    made.bundle.save(folder / "bundle")
    (folder / "compile.json").write_text(dump_document(made.document, indent=1), encoding="utf-8")
    (folder / "ladder.json").write_text(dump_document(LadderDocument(made.ladder), indent=1), encoding="utf-8")


@dataclass(frozen=True, slots=True, eq=False)
class BuiltLadder:
    """The ladder as measured on the device, its bundle, and every build."""

    ladder: Ladder
    bundle: Bundle
    document: CompileDocument


def build_ladder(
    workspace: Workspace,
    net: SuperNet,
    ladder: Ladder,
    examples: Sequence[torch.Tensor],
    device: Device,
    runtimes: Sequence[str],
    budget_s: float,
    note: Note = silent,
) -> BuiltLadder:
    """Build, tune, verify, measure and pack the rungs of a ladder; nothing is cached.

    examples: real inputs of batch size 1, which become the golden inputs.

    Raises:
        CompileError: no runtime can take a rung.
        GateError: the measured rungs do not make a ladder.
        DeviceError: the agent went away or refused to measure.
    """
    target = CompileTarget.from_card(device.card)
    subjects = [_subject(net, rung, examples[0]) for rung in ladder.rungs]
    builds: dict[tuple[str, str], Built | BuildRecord] = {}
    tuning = None
    lease = device.lease(
        wait_s=_LEASE_WAIT_S, on_wait=lambda holder: note(f"waiting for {device.name}, on which {holder} measures")
    )
    with lease:
        if "litert" in runtimes:
            note("writing LiteRT models")
            for subject in subjects:
                builds[subject.rung.name, "litert"] = _plain("litert", subject, target)
        if "tvm" in runtimes:
            tuning = _tuned(workspace, device, lease, subjects, target, budget_s, builds, note)
        checked = {key: _checked(key, built, subjects, examples, note) for key, built in builds.items()}
        note("measuring the rungs")
        records = _measured(device, lease, checked, target)
    rungs, kept, dropped = _choose(ladder.rungs, records)
    measured = Ladder(ladder.model, device.name, tuple(rungs), ladder.slo_us)
    if measured.slo_us is None:
        measured = replace(measured, slo_us=slo_from(measured))
    by_name = {subject.rung.name: subject for subject in subjects}
    packed = [
        _packed(rung, by_name[old.name], checked[old.name, runtime], examples)
        for rung, (old, runtime) in zip(rungs, kept, strict=True)
    ]
    bundle = _pack(measured, packed, subjects[0].captured, examples, device, target)
    document = CompileDocument(
        measured.model,
        device.name,
        tuple(
            RungRecord(rung.name, runtime, records[old.name]) for rung, (old, runtime) in zip(rungs, kept, strict=True)
        ),
        dropped,
        tuning,
        bundle.sha256,
        bundle.size_bytes,
        measured.slo_us,
    )
    return BuiltLadder(measured, bundle, document)


def _subject(net: SuperNet, rung: Rung, example: torch.Tensor) -> _Subject:
    subnet = net.extract(rung.config)
    return _Subject(rung, subnet, capture(subnet, (example,)))


def _plain(runtime: str, subject: _Subject, target: CompileTarget) -> Built | BuildRecord:
    started = time.monotonic()
    try:
        return backend(runtime).build(subject.captured, target)
    except CompileError as error:
        return _failed(runtime, error, time.monotonic() - started)


def _tuned(
    workspace: Workspace,
    device: Device,
    lease: Lease,
    subjects: Sequence[_Subject],
    target: CompileTarget,
    budget_s: float,
    builds: dict[tuple[str, str], Built | BuildRecord],
    note: Note,
) -> TuningRecord | None:
    """Import, tune and build all rungs for TVM; what TVM cannot take becomes a record with the reason."""
    from tailorbird.compile.tvm.backend import built
    from tailorbird.compile.tvm.pipeline import import_network, prepare
    from tailorbird.compile.tvm.target import runtime_library
    from tailorbird.tune.builders import Builders
    from tailorbird.tune.tuner import Progress, build_rungs, tune

    def measure(candidates: Sequence[Candidate], protocol: TimingProtocol) -> Sequence[Measurement]:
        return device.measure(candidates, protocol, runtime_library=runtime_library(target.triple), lease=lease)

    def report(now: Progress) -> None:
        total = time_words(now.total_us) if now.total_us else "-"
        note(f"tuning {now.tuned}/{now.kernels} kernels, {now.trials} trials, all rungs {total}, {now.seconds:.0f} s")

    started = time.monotonic()
    try:
        with Builders(target) as builders:
            note("importing into TVM")
            modules = [prepare(import_network(subject.captured), target) for subject in subjects]
            tuning = tune(
                modules,
                measure,
                budget_s,
                workspace.store.schedules.on(device.name),
                builders,
                seed=workspace.settings.seed,
                on_progress=report,
            )
            note("building the tuned rungs")
            libraries = build_rungs(modules, tuning, builders)
    except CompileError as error:
        record = _failed("tvm", error, time.monotonic() - started)
        builds.update({(subject.rung.name, "tvm"): record for subject in subjects})
        return None
    for subject, (library, seconds) in zip(subjects, libraries, strict=True):
        builds[subject.rung.name, "tvm"] = built(subject.captured, target, library, seconds, ("tuned",))
    return TuningRecord(tuning.kernels, tuning.exact_hits, tuning.trials, tuning.failures, tuning.seconds)


def _checked(
    key: tuple[str, str],
    built: Built | BuildRecord,
    subjects: Sequence[_Subject],
    examples: Sequence[torch.Tensor],
    note: Note,
) -> tuple[Built, Verification] | BuildRecord:
    """A build compared with torch, or a record of why there is none."""
    if isinstance(built, BuildRecord):
        return built
    name, runtime = key
    note(f"checking {name} for {runtime}")
    subject = next(subject for subject in subjects if subject.rung.name == name)
    try:
        return built, verify(built, subject.subnet, [(example,) for example in examples])
    except CompileError as error:
        return _failed(runtime, error, built.seconds)


def _failed(runtime: str, error: CompileError, seconds: float) -> BuildRecord:
    words = error.what if not error.why else f"{error.what}: {error.why}"
    return BuildRecord(runtime, None, None, "", None, None, seconds, 0, words)


def _measured(
    device: Device,
    lease: Lease,
    checked: dict[tuple[str, str], tuple[Built, Verification] | BuildRecord],
    target: CompileTarget,
) -> dict[str, tuple[BuildRecord, ...]]:
    """Every build timed on the device, in one batch."""
    from tailorbird.compile.tvm.target import runtime_library

    keys = [key for key, value in checked.items() if not isinstance(value, BuildRecord)]
    candidates = []
    for key in keys:
        value = checked[key]
        assert not isinstance(value, BuildRecord)
        candidates.append(Candidate(value[0].kind, value[0].module, value[0].inputs, "/".join(key)))
    needs_tvm = any(runtime == "tvm" for _, runtime in keys)
    library = runtime_library(target.triple) if needs_tvm else None
    timings = dict(
        zip(keys, device.measure(candidates, _RUNG, runtime_library=library, lease=lease) if keys else [], strict=True)
    )
    records: dict[str, tuple[BuildRecord, ...]] = {}
    for (name, runtime), value in checked.items():
        record = value if isinstance(value, BuildRecord) else _record(runtime, *value, timings[name, runtime])
        records[name] = (*records.get(name, ()), record)
    return records


def _record(runtime: str, built: Built, verification: Verification, timing: Measurement) -> BuildRecord:
    return BuildRecord(
        runtime,
        timing.cpu_median_us if timing.ok else None,
        timing.wall_median_us if timing.ok else None,
        timing.verdict.value,
        verification.max_error,
        verification.tolerance,
        built.seconds,
        len(built.module),
        timing.error,
    )


def _choose(
    rungs: Sequence[Rung], records: dict[str, tuple[BuildRecord, ...]]
) -> tuple[list[Rung], list[tuple[Rung, str]], tuple[str, ...]]:
    """The faster build of each rung; rungs that a more accurate one beats are dropped and the rest named anew.

    Returns (measured rungs, (rung of the search, runtime) for each of them, names of the dropped).
    """
    timed: list[tuple[float, Rung, str]] = []
    for rung in rungs:
        usable = [(record.cpu_us, record.runtime) for record in records[rung.name] if record.cpu_us is not None]
        if not usable:
            reasons = "; ".join(f"{record.runtime}: {record.error}" for record in records[rung.name])
            raise CompileError(f"rung {rung.name} cannot be built for this device", why=reasons)
        cpu_us, runtime = min(usable)
        timed.append((cpu_us, rung, runtime))
    timed.sort(key=lambda item: item[0])
    kept: list[tuple[float, Rung, str]] = []
    for cpu_us, rung, runtime in timed:
        if not kept or rung.accuracy > kept[-1][1].accuracy:
            kept.append((cpu_us, rung, runtime))
    names = {rung.name for _, rung, _ in kept}
    if len(kept) < 2:
        raise GateError(
            "only one rung is left after measuring",
            why="every other one is slower than a more accurate one",
            fix="train the SuperNet longer, or search with more rungs",
            reason="LADDER_TOO_SHORT",
        )
    measured = [replace(rung, name=f"r{i}", measured_us=cpu_us) for i, (cpu_us, rung, _) in enumerate(kept)]
    dropped = tuple(rung.name for rung in rungs if rung.name not in names)
    return measured, [(rung, runtime) for _, rung, runtime in kept], dropped


def _packed(
    rung: Rung,
    subject: _Subject,
    build: tuple[Built, Verification] | BuildRecord,
    examples: Sequence[torch.Tensor],
) -> BuiltRung:
    assert not isinstance(build, BuildRecord)
    built, verification = build
    assert rung.measured_us is not None
    return BuiltRung(
        name=rung.name,
        config=rung.config,
        runtime=built.runtime,
        module=built.module,
        parameters=built.parameters,
        accuracy=rung.accuracy,
        cpu_us=rung.measured_us,
        golden=tuple(_answers(subject, built, example) for example in examples),
        tolerance=verification.tolerance,
        threads=built.target.threads,
    )


def _answers(subject: _Subject, built: Built, example: torch.Tensor) -> Tensors:
    """Torch's outputs for one golden input."""
    with torch.no_grad():
        answer = subject.subnet(example)
    values = answer if isinstance(answer, (tuple, list)) else (answer,)
    return {spec.name: value.numpy() for spec, value in zip(built.outputs, values, strict=True)}


def _pack(
    ladder: Ladder,
    rungs: Sequence[BuiltRung],
    captured: Captured,
    examples: Sequence[torch.Tensor],
    device: Device,
    target: CompileTarget,
) -> Bundle:
    from tailorbird.compile.tvm.target import RUNTIME_DISTRIBUTION, runtime_library

    libraries = []
    if any(rung.runtime == "tvm" for rung in rungs):
        version = importlib.metadata.version(RUNTIME_DISTRIBUTION)
        libraries.append(RuntimeLibrary("tvm", version, runtime_library(target.triple).read_bytes()))
    (tensor,) = captured.inputs
    return pack(
        ladder.model,
        rungs,
        inputs=captured.inputs,
        outputs=captured.outputs,
        golden_inputs=[{tensor.name: example.numpy()} for example in examples],
        card=device.card,
        libraries=libraries,
        slo_us=ladder.slo_us,
    )
