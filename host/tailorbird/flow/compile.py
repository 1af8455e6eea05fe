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

from tailorbird.bundle import BuiltRung, Bundle, RuntimeLibrary, Tensors, pack
from tailorbird.cache import StageResult
from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import Network as Captured
from tailorbird.device import Device
from tailorbird.document import dump_document
from tailorbird.errors import CompileError, DeviceError
from tailorbird.flow.artifact import read_document
from tailorbird.flow.contest import BuildRecord, Entrant, accepted, answers_of, choose, contest, failed, golden_of
from tailorbird.flow.data import Splits
from tailorbird.flow.search import LADDER_SCHEMA, LadderDocument, SearchOutcome, card_identity
from tailorbird.flow.tune import (
    Subject,
    TuningRecord,
    last_tuning,
    pool_of,
    prepared,
    progress_words,
    subject_of,
    tune_modules,
)
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.search import slo_from
from tailorbird.supernet import SuperNet
from tailorbird.types import Ladder, Rung

COMPILE_SCHEMA = "tailorbird.compile/1"
_STAGE = "compile"
_GOLDEN = 6
_LEASE_WAIT_S = 3600.0


@dataclass(frozen=True, slots=True)
class RungRecord:
    """A rung of the finished ladder, the runtime that ships, and all its builds."""

    name: str
    runtime: str
    builds: tuple[BuildRecord, ...]


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
    """Build, tune, verify and measure every rung, for as many threads as the settings say, and pack the ladder.

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
        "tuned": last_tuning(workspace),
        "slo_us": slo_us,
        "threads": workspace.settings.threads,
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
    target = CompileTarget.from_card(device.card, threads=workspace.settings.threads)
    subjects = [subject_of(net, rung, examples[0]) for rung in ladder.rungs]
    builds: dict[str, list[Entrant]] = {}
    tuning = None
    if "litert" in runtimes:
        note("writing LiteRT models")
        builds["litert"] = [_plain("litert", subject, target) for subject in subjects]
    if "tvm" in runtimes:
        builds["tvm"], tuning = _tuned(workspace, device, subjects, target, budget_s, note)
    entries = {
        subject.rung.name: {runtime: made[index] for runtime, made in builds.items()}
        for index, subject in enumerate(subjects)
    }
    answers = {subject.rung.name: answers_of(subject, examples) for subject in subjects}
    golden = {subject.rung.name: golden_of(subject, examples, answers[subject.rung.name]) for subject in subjects}
    note("checking the rungs against torch and measuring them")
    with device.lease(
        wait_s=_LEASE_WAIT_S, on_wait=lambda holder: note(f"waiting for {device.name}, on which {holder} measures")
    ) as lease:
        entrants = {name: tuple(each.values()) for name, each in entries.items()}
        records = contest(device, lease, entrants, golden, target)
    rungs, kept, dropped = choose(ladder.rungs, records, threads=target.threads)
    measured = Ladder(ladder.model, device.name, tuple(rungs), ladder.slo_us)
    if measured.slo_us is None:
        measured = replace(measured, slo_us=slo_from(measured))
    packed = [
        _packed(rung, entries[old.name][runtime], records[old.name], answers[old.name])
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


def _plain(runtime: str, subject: Subject, target: CompileTarget) -> Entrant:
    started = time.monotonic()
    try:
        return backend(runtime).build(subject.captured, target)
    except CompileError as error:
        return failed(runtime, error, time.monotonic() - started)


def _tuned(
    workspace: Workspace,
    device: Device,
    subjects: Sequence[Subject],
    target: CompileTarget,
    budget_s: float,
    note: Note,
) -> tuple[list[Entrant], TuningRecord | None]:
    """Import, tune and build all rungs for TVM; what TVM cannot take becomes a record with the reason."""
    from tailorbird.compile.tvm.backend import built
    from tailorbird.tune.assemble import build_rungs
    from tailorbird.tune.builders import Builders
    from tailorbird.tune.failure import TuningError
    from tailorbird.types.schedule import DeviceClass

    started = time.monotonic()
    try:
        with Builders(target) as builders, pool_of(workspace, device, note) as pool:
            note("importing into TVM")
            modules = prepared(subjects, target)
            tuning = tune_modules(
                workspace,
                pool,
                modules,
                DeviceClass.of_card(device.card, target.threads),
                builders,
                budget_s,
                on_progress=lambda now: note(f"tuning {progress_words(now)}"),
            )
            note("building the tuned rungs")
            libraries = build_rungs(modules, tuning.best, builders)
    except (CompileError, TuningError) as error:
        record = failed("tvm", error, time.monotonic() - started)
        return [record] * len(subjects), None
    made: list[Entrant] = [
        built(subject.captured, target, library, seconds, ("tuned",))
        for subject, (library, seconds) in zip(subjects, libraries, strict=True)
    ]
    return made, TuningRecord.of(tuning)


def _packed(rung: Rung, built: Entrant, records: Sequence[BuildRecord], answers: Sequence[Tensors]) -> BuiltRung:
    assert isinstance(built, Built)
    assert rung.measured_us is not None
    return BuiltRung(
        name=rung.name,
        config=rung.config,
        runtime=built.runtime,
        module=built.module,
        parameters=built.parameters,
        accuracy=rung.accuracy,
        cpu_us=rung.measured_us,
        golden=tuple(answers),
        tolerance=accepted(answers),
        threads=built.target.threads,
        timings=tuple((record.runtime, record.cpu_us) for record in records if record.cpu_us is not None),
    )


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
