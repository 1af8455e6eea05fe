"""The parts of a headline comparison: who takes part, how each is made, how all are timed. Each part is a stage."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

import tailorbird as tb
from tailorbird.compile.base import CompileTarget
from tailorbird.db import Store
from tailorbird.device import Device
from tailorbird.errors import TailorbirdError
from tailorbird.flow.source import fingerprint
from tailorbird.flow.workspace import Note
from tailorbird.supernet import SuperNet
from tailorbird.types import TimingProtocol
from tests.bench.equal_latency import baselines_pruned, baselines_sliced, ours
from tests.bench.equal_latency.baselines_pruned import Pruned, packed, unpacked
from tests.bench.equal_latency.baselines_sliced import Sliced
from tests.bench.equal_latency.entrant import Entrant, Found, Judges, judged
from tests.bench.equal_latency.finetune import Batch, Clock, Trainer, Tuning
from tests.bench.equal_latency.projections import projected
from tests.bench.equal_latency.race import ROUND, Timing, race

#: Does a part of the work unless its result is known: (name, settings, what makes the result), all of them JSON.
Stage = Callable[[str, Mapping[str, Any], Callable[[], Found]], Found]

ORIGINAL = "original"
_DISTILLED = "-distilled"
_PRUNED = {
    "nestdnn": Pruned(),
    "nestdnn-nested": Pruned(nested=True),
    "nestdnn-global": Pruned(over_all=True),
}
_SLICED = ("uniform-width", "depth")

#: The baselines that are asked for, and stronger versions of them.
STANDARD = ("nestdnn", *_SLICED)
STRONGER = tuple(name for base in (*_PRUNED, *_SLICED) for name in (base, base + _DISTILLED) if name not in STANDARD)


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Batches of (images, labels), each read as often as needed. recalibration: training images for batch_norm
    statistics, of our subnets and of every baseline.
    """

    train: Iterable[Batch]
    recalibration: Iterable[Batch]
    validation: Iterable[Batch]
    evaluation: Iterable[Batch]


@dataclass(frozen=True, slots=True)
class Options:
    """The size of the comparison. budget_s: seconds of training for each method on the clock; sharing: "method" divides
    them by the networks of a family, "variant" gives them to each; rates: learning rates that every network of a
    baseline is trained with, for its whole share each time, of which the best on the validation images is kept; rounds:
    of measuring; scouting: of measuring the baselines beforehand, which gives our search its deadlines.

    Raises: ValueError for a baseline or a sharing that does not exist.
    """

    budget_s: float
    methods: tuple[str, ...] = STANDARD
    sharing: str = "method"
    ratios: tuple[float, ...] = baselines_pruned.RATIOS
    multipliers: tuple[float, ...] = baselines_sliced.MULTIPLIERS
    tuning: Tuning = field(default_factory=Tuning)
    rates: tuple[float, ...] = (0.02,)
    climb: ours.Climb = field(default_factory=ours.Climb)
    recalibration_images: int = 2000
    rounds: int = 7
    scouting: int = 2
    protocol: TimingProtocol = ROUND
    runtime: str = "litert"

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in {*STANDARD, *STRONGER}]
        if unknown:
            raise ValueError(f"no baseline is called {unknown[0]!r}: there are {', '.join((*STANDARD, *STRONGER))}")
        if not self.rates:
            raise ValueError("at least one learning rate is needed")
        if self.sharing not in {"method", "variant"}:
            raise ValueError(f"a budget is shared by 'method' or 'variant', not by {self.sharing!r}")


class Contest:
    """Makes the entrants and times them. failures: what could not be trained, compiled or timed, by label, and why."""

    def __init__(
        self,
        pretrained: nn.Module,
        net: SuperNet,
        data: Data,
        device: Device,
        store: Store,
        options: Options,
        *,
        identity: Mapping[str, Any],
        clock: Clock,
        seed: int,
        stage: Stage,
        note: Note,
    ) -> None:
        self.pretrained, self.net, self.data = pretrained, net, data
        self.device, self.store, self.options = device, store, options
        self.seed, self.note = seed, note
        self.failures: dict[str, str] = {}
        self._stage = stage
        example: Tensor = net.example_inputs[0][:1]  # latency is that of a single image
        target = CompileTarget.from_card(device.card)
        self.judges = Judges(data.validation, data.evaluation, example, target, options.runtime)
        self.trainer = Trainer(data.train, data.recalibration, options.recalibration_images, clock, options.tuning)
        #: Where baselines start: the same network, with shortcuts that can be pruned and sliced.
        self.start = projected(pretrained).eval()
        self._identity = {
            **identity,
            "pretrained": fingerprint(pretrained)[:16],
            "recalibration_images": options.recalibration_images,
            "runtime": options.runtime,
            "target": [target.triple, target.llvm_cpu],
            "seed": seed,
        }

    def original(self) -> Entrant:
        """The pretrained network itself."""
        found = self._stage(
            "headline-original",
            self._identity,
            lambda: judged(ORIGINAL, "full", copy.deepcopy(self.pretrained), self.judges, {}).to_json(),
        )
        return Entrant.from_json(found)

    def family(self, method: str) -> list[Entrant]:
        """The networks of a baseline, largest first."""
        base = method.removesuffix(_DISTILLED)
        teacher = self.start if base != method else None
        if base in _PRUNED:
            return self._pruned(method, _PRUNED[base], teacher)
        if base == "uniform-width":
            return self._sliced(
                method, baselines_sliced.uniform_widths(self._untrained, self.options.multipliers), teacher
            )
        return self._sliced(method, baselines_sliced.truncated_depths(self._untrained), teacher)

    def rungs(self, deadlines_us: Sequence[float], predict: ours.Predict | None) -> tuple[list[Entrant], Found]:
        """Ours, fastest first, and how they were found."""
        settings = self._identity | {
            "net": fingerprint(self.net)[:16],
            "climb": asdict(self.options.climb),
            "deadlines_us": [round(us, 1) for us in deadlines_us],
            "predictor": "given" if predict else "table",
        }

        def make() -> Found:
            found, search = ours.climb(
                self.net,
                self.data.recalibration,
                self.options.recalibration_images,
                self.judges,
                self.device,
                self.store,
                self.options.climb,
                deadlines_us=deadlines_us,
                predict=predict,
                seed=self.seed,
                note=self.note,
            )
            return {"rungs": [e.to_json() for e in found], "search": search}

        found = self._stage("headline-ours", settings, make)
        return [Entrant.from_json(e) for e in found["rungs"]], found["search"]

    def timings(self, name: str, entrants: Sequence[Entrant], rounds: int) -> dict[str, Timing]:
        """Latencies by label, of those that ran at all."""
        candidates = [e.candidate for e in entrants]
        settings = {
            "modules": {c.label: hashlib.sha256(c.module).hexdigest()[:16] for c in candidates},
            "rounds": rounds,
            "protocol": asdict(self.options.protocol),
            "seed": self.seed,
            "device": [self.device.name, self.device.card.cpu_model],
        }
        library = None
        if self.options.runtime == "tvm":
            from tailorbird.compile.tvm.target import runtime_library

            library = runtime_library(self.judges.target.triple)

        def make() -> Found:
            timed = race(
                self.device,
                candidates,
                rounds,
                protocol=self.options.protocol,
                seed=self.seed,
                runtime_library=library,
                note=self.note,
            )
            return {label: t if isinstance(t, str) else t.to_json() for label, t in timed.items()}

        found = self._stage(name, settings, make)
        self.failures |= {label: error for label, error in found.items() if isinstance(error, str)}
        return {label: Timing.from_json(t) for label, t in found.items() if not isinstance(t, str)}

    def _pruned(self, method: str, family: Pruned, teacher: nn.Module | None) -> list[Entrant]:
        ratios = self.options.ratios
        parent: baselines_pruned.Parent | None = None
        entrants: list[Entrant] = []
        for ratio in ratios:
            settings = {"ratio": ratio, **({"ratios": list(ratios)} if family.nested else {})}

            def make(
                trainer: Trainer, seconds: float, ratio: float = ratio, parent: baselines_pruned.Parent | None = parent
            ) -> Found:
                made, network = baselines_pruned.descend(
                    method,
                    self.start,
                    ratio,
                    family,
                    parent,
                    teacher,
                    trainer,
                    seconds,
                    self.judges,
                )
                return made.to_json() | ({"network": packed(network)} if family.nested else {})

            found = self._trained(method, f"ratio {ratio:g}", len(ratios), settings, make)
            if found is not None:
                if family.nested:
                    parent = baselines_pruned.Parent(unpacked(found.pop("network")), ratio)
                entrants.append(Entrant.from_json(found))
        return entrants

    @functools.cached_property
    def _untrained(self) -> SuperNet:
        """The SuperNet that uniform and truncated subnets are cut from: fine widths, by Taylor importance."""
        return tb.elastic(
            self.start, (self.judges.example,), divisor=4, importance="taylor", calibration=self.data.recalibration
        )

    def _sliced(self, method: str, configs: Sliced, teacher: nn.Module | None) -> list[Entrant]:
        entrants: list[Entrant] = []
        for name, config in configs:

            def make(trainer: Trainer, seconds: float, name: str = name, config: tb.Config = config) -> Found:
                return baselines_sliced.slice_off(
                    method,
                    self._untrained,
                    name,
                    config,
                    teacher,
                    trainer,
                    seconds,
                    self.judges,
                ).to_json()

            found = self._trained(method, name, len(configs), {"config": config.to_json()}, make)
            if found is not None:
                entrants.append(Entrant.from_json(found))
        return entrants

    def _trained(
        self, method: str, name: str, count: int, settings: Mapping[str, Any], make: Callable[[Trainer, float], Found]
    ) -> Found | None:
        """One network of a family of `count`, at the best learning rate; None with the reason among the failures."""
        seconds = self.options.budget_s / (count if self.options.sharing == "method" else 1)
        tried = []
        for lr in self.options.rates:
            tuning = replace(self.options.tuning, lr=lr)
            own = {"method": method, "seconds": seconds, "tuning": asdict(tuning), **settings}
            self.note(f"fine-tuning {method}/{name} for {seconds:.0f} s at a learning rate of {lr:g}")

            def seeded(tuning: Tuning = tuning) -> Found:
                with torch.random.fork_rng():
                    torch.manual_seed(self.seed)
                    return make(replace(self.trainer, tuning=tuning), seconds)

            try:
                tried.append(dict(self._stage("headline-baseline", self._identity | own, seeded)))
            except TailorbirdError as error:
                self.failures[f"{method}/{name}"] = " ".join(filter(None, (error.what, error.why)))
        return max(tried, key=lambda found: found["validation"], default=None)
