"""Tuning a ladder's kernels on devices: which network is compiled for which boards, and what came of it.

tuning.json    every kernel with its time and where its schedule came from; the schedules themselves are in the store
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tailorbird.cache import StageResult
from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import Network as Captured
from tailorbird.compile.capture import capture
from tailorbird.device import Device, DevicePool, Devices, PoolEvent
from tailorbird.document import dump_document
from tailorbird.errors import CompileError, DeviceError, TailorbirdError, UsageError
from tailorbird.flow.search import SearchOutcome
from tailorbird.flow.workspace import Note, Workspace, silent
from tailorbird.supernet import SuperNet
from tailorbird.types import DeviceCard, Rung
from tailorbird.types.schedule import DeviceClass
from tailorbird.units import time_words

if TYPE_CHECKING:  # TVM takes seconds to import
    from tailorbird.tune.builders import Builders
    from tailorbird.tune.session import Progress
    from tailorbird.tune.task import Placed
    from tailorbird.tune.tuner import Tuning

TUNING_SCHEMA = "tailorbird.tuning/1"
_STAGE = "tune"


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A rung on its way through the compilers."""

    rung: Rung
    subnet: nn.Module
    captured: Captured


@dataclass(frozen=True, slots=True)
class TuningRecord:
    """Kernel tuning on the device: distinct kernels, those already known, candidates tried, those that failed; where
    the kernels' schedules came from, as (source, kernels)."""

    kernels: int
    exact_hits: int
    trials: int
    failures: int
    seconds: float
    sources: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, tuning: Tuning) -> TuningRecord:
        """The counts of a tuning."""
        from tailorbird.types.schedule import SOURCES

        sources = tuple((source, tuning.count(source)) for source in SOURCES if tuning.count(source))
        return cls(len(tuning.kernels), tuning.count("exact"), tuning.trials, tuning.failed, tuning.seconds, sources)


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a device can do with so many threads, from its card's figures (Williams et al., 2009).

    gflops: peak float32 arithmetic, 1e9 per second; gbytes: memory bandwidth, 1e9 bytes per second.
    """

    gflops: float
    gbytes: float

    def share(self, kernel: Placed) -> float | None:
        """Of the bound that the kernel's arithmetic and bytes set; None for one without a time.

        Data that stays in caches may take it beyond 1.
        """
        if not kernel.us:
            return None
        least_us = max(kernel.flops / self.gflops, kernel.bytes / self.gbytes) / 1e3
        return least_us / kernel.us


@dataclass(frozen=True, slots=True)
class TunedKernel:
    """A kernel after tuning. calls: per pass over all rungs; gflops: 1e9 operations per second; roofline: share of the
    device's bound, None without figures; trials: candidates tried in this run; see tune.task.Placed for the source."""

    workload: str
    name: str
    calls: int
    best_us: float | None
    untuned_us: float | None
    gflops: float | None
    roofline: float | None
    trials: int
    source: str


@dataclass(frozen=True, slots=True)
class TuningDocument:
    """tuning.json. total_us, untuned_us: one pass over all rungs by their kernels' times; failures: (kind, candidates);
    exhausted: nothing promised enough to go on; refused: (device, why) of those that could not take part."""

    model: str
    devices: tuple[str, ...]
    device_class: str
    kernels: tuple[TunedKernel, ...]
    trials: int
    failures: tuple[tuple[str, int], ...]
    seconds: float
    total_us: float
    untuned_us: float
    exhausted: bool
    refused: tuple[tuple[str, str], ...]
    schema: str = TUNING_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class TuneOutcome:
    """What `tune` did, and its artifact."""

    document: TuningDocument
    result: StageResult


def subject_of(net: SuperNet, rung: Rung, example: torch.Tensor) -> Subject:
    """A rung taken out of its SuperNet and captured."""
    subnet = net.extract(rung.config)
    return Subject(rung, subnet, capture(subnet, (example,)))


def prepared(subjects: Sequence[Subject], target: CompileTarget) -> list[Any]:
    """The rungs as modules whose kernels can be tuned. Raises CompileError for operations that TVM lacks."""
    from tailorbird.compile.tvm.pipeline import import_network, prepare

    return [prepare(import_network(subject.captured), target) for subject in subjects]


def pool_of(workspace: Workspace, device: Device, note: Note) -> DevicePool:
    """A pool of one device that is connected already; it is dialled again, so that losing it costs only its batch."""
    return DevicePool(
        [device.name],
        lambda _: Device.connect(str(device.address), book=workspace.store.leases),
        on_event=lambda event: _tell(event, note),
    )


def _tell(event: PoolEvent, note: Note) -> None:
    if event.kind == "waiting":
        note(f"waiting for {event.device}: {event.message}")
    elif event.kind in {"lost", "refused"}:
        note(f"{event.device} is {event.kind}: {event.message}")


def tune_modules(
    workspace: Workspace,
    pool: DevicePool,
    modules: Sequence[Any],
    boards: DeviceClass,
    builders: Builders,
    budget_s: float,
    *,
    on_progress: Callable[[Progress], None],
    **options: Any,
) -> Tuning:
    """Reuse and search schedules for prepared modules; options: of tune.session.tune. Raises what that raises.

    The search asks the shipped cost model, which learns on from what the boards answer, unless `cost` is given. It does
    not end a kernel: that is for the budget, which knows what other kernels promise.
    """
    from tailorbird.compile.tvm.target import runtime_library
    from tailorbird.tune.cost.default import default_costs
    from tailorbird.tune.session import tune

    if budget_s > 0 and "cost" not in options:
        options["cost"] = default_costs(boards, controlled=False, seed=workspace.settings.seed)
    return tune(
        pool,
        modules,
        workspace.store.schedules,
        boards,
        builders,
        runtime_library=runtime_library(builders.target.triple),
        budget_s=budget_s,
        seed=workspace.settings.seed,
        on_progress=on_progress,
        **options,
    )


def progress_words(now: Progress) -> str:
    """ "12/40 kernels, 96 trials, all rungs 3.1 ms, 7 s"."""
    total = time_words(now.total_us) if now.total_us else "-"
    return f"{now.scheduled}/{len(now.kernels)} kernels, {now.trials} trials, all rungs {total}, {now.seconds:.0f} s"


def tune_ladder(
    workspace: Workspace,
    found: SearchOutcome,
    devices: str,
    *,
    budget_s: float,
    most_trials: int | None = None,
    transfer_from: str | None = None,
    on_progress: Callable[[Progress, Roofline | None], None] = lambda _now, _roofline: None,
    note: Note = silent,
) -> TuneOutcome:
    """Tune the kernels of a ladder's rungs; the schedules go into the store, where `compile` finds them.

    devices: "rpi4-1", "a,b" or "class:rpi4", used in parallel; transfer_from: only this device's schedules are lent,
    by default those of all.

    Raises:
        UsageError: no such class; no schedules of `transfer_from`.
        CompileError: the target is unknown, or the one device cannot run what is compiled for it.
        TuningError: none of the candidates could be timed, or none was tried.
        DeviceError, EnvironmentFaultError: no device is left; a disk is full.
    """
    from tailorbird.compile.tvm.target import tvm_target
    from tailorbird.tune.builders import Builders
    from tailorbird.tune.failure import TuningError

    known = Devices(workspace.store)
    names, card, refused = _admitted(known, known.select(devices), note)
    target = CompileTarget.from_card(card, threads=workspace.settings.threads)
    tvm_target(target)
    boards = DeviceClass.of_card(card, target.threads)
    lenders = None if transfer_from is None else _lenders(workspace, transfer_from, target.threads)
    subjects = [subject_of(found.network.net, rung, found.network.example[0]) for rung in found.ladder.rungs]
    roofline = roofline_of(workspace, card.name, target.threads)
    with ExitStack() as opened:
        builders = opened.enter_context(Builders(target))
        pool = opened.enter_context(DevicePool(names, known.__getitem__, on_event=lambda event: _tell(event, note)))
        note("importing into TVM")
        tuning = tune_modules(
            workspace,
            pool,
            prepared(subjects, target),
            boards,
            builders,
            budget_s,
            most_trials=most_trials,
            accept=lambda donor: lenders is None or donor.device_class.name in lenders,
            on_progress=lambda now: on_progress(now, roofline),
        )
    if not tuning.trials and any(kernel.us is None for kernel in tuning.kernels):
        raise TuningError(
            "no candidate was tried",
            why=f"{budget_s:g} s or {most_trials} trials leave no room for one",
            fix="give a longer --budget or more --trials",
        )
    document = TuningDocument(
        found.ladder.model,
        names,
        boards.name,
        tuple(tuned_kernel(kernel, roofline) for kernel in tuning.kernels),
        tuning.trials,
        tuning.failures,
        tuning.seconds,
        tuning.total_us,
        tuning.untuned_us,
        tuning.exhausted,
        refused,
    )

    def build(folder: Path) -> None:
        (folder / "tuning.json").write_text(dump_document(document, indent=1), encoding="utf-8")

    inputs = {"search": found.result.key, "boards": boards.name, "run": uuid.uuid4().hex}
    return TuneOutcome(document, workspace.cache.run(_STAGE, inputs, build))


def last_tuning(workspace: Workspace) -> str:
    """Key of the newest `tune`, "" when there was none: what is compiled after it is not what was before."""
    newest = workspace.store.stages.newest(_STAGE)
    return "" if newest is None else newest.key


def roofline_of(workspace: Workspace, device: str, threads: int) -> Roofline | None:
    """A device's bounds as last measured by `bench`; None where that was not done with so many threads."""
    records = workspace.store.measurements.figure_records(device)
    values = {record.figure.name: record.figure.value for record in records if record.threads == threads}
    if not values.get("gemm-fp32") or not values.get("stream-triad"):
        return None
    return Roofline(values["gemm-fp32"], values["stream-triad"])


def tuned_kernel(kernel: Placed, roofline: Roofline | None) -> TunedKernel:
    """A kernel with its figures."""
    return TunedKernel(
        kernel.workload,
        kernel.name,
        kernel.calls,
        kernel.us,
        kernel.untuned_us,
        kernel.flops / kernel.us / 1e3 if kernel.us else None,
        None if roofline is None else roofline.share(kernel),
        kernel.measurements,
        kernel.source,
    )


def _admitted(
    known: Devices, names: Sequence[str], note: Note
) -> tuple[tuple[str, ...], DeviceCard, tuple[tuple[str, str], ...]]:
    """The devices that can take part, the card of the first, and why the others cannot. Nothing is sent to them.

    Raises the reason when none can.
    """
    from tailorbird.compile.tvm.fit import require_fit

    cards: dict[str, DeviceCard] = {}
    reasons: dict[str, TailorbirdError] = {}
    for name in names:
        try:
            with known[name] as device:
                card = device.card
            first = next(iter(cards.values()), card)
            require_fit(CompileTarget.from_card(first), card)
            _same_boards(first, card)
        except (CompileError, DeviceError) as error:
            reasons[name] = error
            note(f"{name} takes no part: {error.why or error.what}")
        else:
            cards[name] = card
    if not cards:
        raise next(iter(reasons.values()))
    refused = tuple((name, error.why or error.what) for name, error in reasons.items())
    return tuple(cards), next(iter(cards.values())), refused


def _same_boards(first: DeviceCard, card: DeviceCard) -> None:
    if DeviceClass.of_card(first, 1).name != DeviceClass.of_card(card, 1).name:
        raise CompileError(
            f"{card.name} is another kind of board than {first.name}",
            why=f"its CPU is {card.cpu_model} with {card.cores} cores, not {first.cpu_model} with {first.cores}",
            fix="tune it by itself: a schedule's time holds for one kind of board",
            reason="INCOMPATIBLE_CLASS",
        )


def _lenders(workspace: Workspace, name: str, threads: int) -> set[str]:
    """Classes of boards that a device's schedules are stored under. Raises UsageError when there are none."""
    schedules = workspace.store.schedules
    classes = set(schedules.classes_of(name))
    record = workspace.store.devices.find(name)
    if record is not None and record.card is not None:
        classes.add(DeviceClass.of_card(record.card, threads).name)
    classes &= {boards.name for boards in schedules.classes()}
    if not classes:
        raise UsageError(
            f"there are no schedules of {name}",
            why=f"schedules were made on {', '.join(schedules.devices()) or 'no device yet'}",
            fix=f"tune on {name} first, or import its schedules with `tailorbird tune --import`",
        )
    return classes
