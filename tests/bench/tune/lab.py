"""The runs of the benchmark on one machine, each kept as JSON as soon as it is done: a killed benchmark goes on.

cold         our tuner from an empty store
transfer     reuse alone, at most 5 measurements per kernel, from networks of other families
warm         transfer, then search
published    Transfer-Tuning as its authors published it (Gibson and Cano, PACT 2022)
stock        MetaSchedule as it comes, from nothing
untuned      plain loops
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.litert.backend import LitertBackend
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Donor, Store
from tailorbird.device import Device, DevicePool
from tailorbird.tune.assemble import build_rungs
from tailorbird.tune.builders import Builders
from tailorbird.tune.cost.corpus import read_corpus
from tailorbird.tune.cost.default import default_costs
from tailorbird.tune.cost.learned import LearnedCosts
from tailorbird.tune.cost.saved import save
from tailorbird.tune.cost.training import pretrain
from tailorbird.tune.gather import GatheredKernel, distinct_kernels
from tailorbird.tune.measuring import TUNING
from tailorbird.tune.session import Progress, tune
from tailorbird.tune.trials import Plan, Trials
from tailorbird.tune.tuner import Tuning
from tailorbird.types.schedule import DeviceClass, ScheduleRecord
from tests.bench.cost.__main__ import RECORDS, SHAPE
from tests.bench.tune import stock
from tests.bench.tune.nets import Net
from tests.bench.tune.peers import Timing, in_turns, onnx_of

_ROUNDS, _CALLS = 5, 40
#: Networks of a family among those that the shipped cost model learnt from.
_SEEN = {"mobilenet": {"mobilenet_v2"}, "resnet": {"resnet18", "resnet20"}, "vit": {"vit_tiny"}}


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and trials of a suite's runs."""

    search_s: float
    stock_s: float
    trials: int
    stock_trials: int


class Lab:
    """One agent, one work folder, one number of threads."""

    def __init__(self, device: Device, work: Path, threads: int, limits: Limits, nets: Sequence[Net]) -> None:
        self.device, self.threads, self.limits, self.nets = device, threads, limits, nets
        self.work = work / f"{threads}t"
        self.work.mkdir(parents=True, exist_ok=True)
        card = device.card
        self.target = CompileTarget.from_card(card, threads=threads)
        self.boards = DeviceClass.of_card(card, threads)
        self.library = runtime_library(card.triple)

    def run(self, net: Net, step: str) -> dict[str, Any]:
        """The result of a step: read, or made and written. What a step that was cut short has stored is thrown away: a
        search that begins with records of its own is none from nothing."""
        path = self.work / f"{net.name}.{step}.json"
        if not path.exists():
            for left in self.work.glob(f"{net.name}.{step}.db*"):
                left.unlink()
            found: dict[str, Any] = getattr(self, f"_{step}")(net)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.replace(path)
        return json.loads(path.read_text())

    # -- steps

    def _cold(self, net: Net) -> dict[str, Any]:
        with self._builders() as builders, self._store(net, "cold") as store:
            return self._tuned(net, builders, store, budget_s=self.limits.search_s, accept=lambda _: False)

    def _transfer(self, net: Net) -> dict[str, Any]:
        with self._lent(net, "transfer") as store, self._builders() as builders:
            return self._tuned(net, builders, store, budget_s=self.limits.search_s, search=False, measurements=5)

    def _warm(self, net: Net) -> dict[str, Any]:
        with self._lent(net, "warm") as store, self._builders() as builders:
            return self._tuned(net, builders, store, budget_s=self.limits.search_s, measurements=5)

    def _untuned(self, net: Net) -> dict[str, Any]:
        with self._builders() as builders:
            return {"library": self._library(net, "untuned", (), builders), "seconds": 0.0, "trials": 0, "curve": []}

    def _stock(self, net: Net) -> dict[str, Any]:
        with self._builders() as builders, self.device.lease() as lease:
            module, limits = self._module(net), self.limits
            started = time.monotonic()
            found = stock.search(
                module, builders, self.device, lease, self.library, trials=limits.stock_trials, seconds=limits.stock_s
            )
            seconds = time.monotonic() - started
            best = [_bare(key, trace) for key, (_, trace) in found.best.items()]
            library = self._library(net, "stock", best, builders)
        return {"library": library, "seconds": seconds, "trials": found.trials, "curve": found.curve}

    def _published(self, net: Net) -> dict[str, Any]:
        """One donor network; class = the fused operators' names; every schedule of the class replayed as it is; the one
        that is fastest standalone wins, whatever plain loops take."""
        donor = next(other for other in self.nets if other.family != net.family)
        with self._builders() as builders, self._store(donor, "cold") as store:
            kernels = distinct_kernels([self._module(net)], builders)
            plans = [plan for kernel in kernels for plan in self._raw(kernel, store, builders)]
            started = time.monotonic()
            best: dict[str, tuple[float, str]] = {}
            left = list(plans)

            def propose(count: int) -> list[Plan]:
                batch, left[:] = left[:count], left[count:]
                return batch

            options = {"protocol": TUNING, "runtime_library": self.library, "plain_first": lambda _: False}
            with self._pool() as pool, Trials(builders, pool, **options) as trials:
                for outcome in trials.stream(propose):
                    key = outcome.plan.workload
                    if outcome.us and (key not in best or outcome.us < best[key][0]):
                        best[key] = (outcome.us, outcome.trace)
            seconds = time.monotonic() - started
            found = [_bare(key, trace) for key, (_, trace) in best.items()]
            library = self._library(net, "published", found, builders)
        covered = len(best) / len(kernels)
        return {
            "library": library, "seconds": seconds, "trials": len(plans), "curve": [], "donor": donor.name,
            "covered": covered,
        }  # fmt: skip

    # -- measuring whole models

    def _timed(self, net: Net) -> dict[str, Any]:
        """Every library of the network beside LiteRT and ONNX Runtime, in turns; nothing builds meanwhile."""
        module, x = net.build()
        builds = {
            step: ("tvm", (self.work / f"{net.name}.{step}.so").read_bytes())
            for step in ("untuned", "cold", "transfer", "warm", "published", "stock")
            if (self.work / f"{net.name}.{step}.so").exists()
        }
        builds["litert"] = ("litert", LitertBackend().build(capture(module, (x,)), self.target).module)
        builds["onnxruntime"] = ("onnx", onnx_of(module, x))
        found = in_turns(builds, module, x, threads=self.threads, rounds=_ROUNDS, calls=_CALLS)
        return {name: _plain(timing) for name, timing in found.items()}

    # -- parts

    @contextmanager
    def _builders(self) -> Iterator[Builders]:
        with Builders(self.target, timeout_s=300.0) as builders:
            yield builders

    def _pool(self) -> DevicePool:
        return DevicePool([self.device.name], lambda _: Device.connect(str(self.device.address)))

    def _store(self, net: Net, step: str) -> Store:
        return Store(self.work / f"{net.name}.{step}.db")

    def _lent(self, net: Net, step: str) -> Store:
        """A store that holds what the cold runs of other families found."""
        lenders = [other for other in self.nets if other.family != net.family]
        for other in lenders:
            self.run(other, "cold")
        store = self._store(net, step)
        for other in lenders:
            with self._store(other, "cold") as donor:
                store.schedules.put_workloads(donor.schedules.workloads())
                store.schedules.merge(donor.schedules.classes(), list(donor.schedules.stored()))
        return store

    def _module(self, net: Net) -> Any:
        module, x = net.build()
        return prepare(import_network(capture(module, (x,))), self.target)

    def _tuned(self, net: Net, builders: Builders, store: Store, **options: Any) -> dict[str, Any]:
        curve: list[tuple[int, float, float | None]] = []

        def note(now: Progress) -> None:
            total = now.total_us if now.scheduled == len(now.kernels) else None
            curve.append((now.trials, now.seconds, total))

        module = self._module(net)
        with self._pool() as pool:
            tuning = tune(
                pool,
                [module],
                store.schedules,
                self.boards,
                builders,
                runtime_library=self.library,
                most_trials=self.limits.trials,
                on_progress=note,
                cost=self._costs(net),
                **options,
            )
        return {
            "library": self._library(net, _step_of(options), tuning.best, builders),
            "seconds": tuning.seconds,
            "trials": tuning.trials,
            "failures": tuning.failures,
            "spent": dict(tuning.spent),
            "sources": _sources(tuning),
            "untuned_us": tuning.untuned_us,
            "curve": curve,
        }

    def _costs(self, net: Net) -> LearnedCosts:
        """The cost model as the commands use it, but for one thing: it has seen no network of this family."""
        seen = _SEEN.get(net.family)
        if seen is None:
            return default_costs(self.boards, controlled=False)
        path = self.work / f"costs-without-{net.family}.safetensors"
        if not path.exists():
            corpus = read_corpus(RECORDS)
            others = corpus.where(lambda task: task.network not in seen)
            boards = tuple(sorted({task.boards.name for task in others.tasks}))
            save(pretrain(others, SHAPE), path, compiler=corpus.compiler, records=others.records, boards=boards)
        return default_costs(self.boards, pretrained=path, controlled=False)

    def _library(self, net: Net, step: str, best: Sequence[ScheduleRecord], builders: Builders) -> str:
        (library, _) = build_rungs([self._module(net)], best, builders)[0]
        path = self.work / f"{net.name}.{step}.so"
        path.write_bytes(library)
        return path.name

    def _raw(self, kernel: GatheredKernel, store: Store, builders: Builders) -> list[Plan]:
        """Plans of all the donor's best schedules whose fused operators have the kernel's names."""
        donors = [donor for donor in _best_of_each(store) if _operators(donor.workload.name) == _operators(kernel.name)]
        asked = [{"mode": "raw", "trace": d.record.trace_json, "seed": 0, "donor": ""} for d in donors]
        if not asked:
            return []
        reply = builders.submit({"do": "replay", "kernel": str(kernel.path), "plans": asked}).result()
        return [
            Plan(kernel.key, kernel.name, kernel.path, result["sketch"], (), result["trace_json"], "transfer", "raw")
            for result in reply.get("results", ())
            if "error" not in result
        ]


def _step_of(options: dict[str, Any]) -> str:
    if "accept" in options:
        return "cold"
    return "warm" if options.get("search", True) else "transfer"


def _best_of_each(store: Store) -> tuple[Donor, ...]:
    return store.schedules.donors("")


def _operators(name: str) -> str:
    """ "fused_conv2d3_add1_relu" as Transfer-Tuning names its classes: without the numbers."""
    return re.sub(r"\d+(?=_|$)", "", name)


def _sources(tuning: Tuning) -> dict[str, int]:
    names = sorted({kernel.source for kernel in tuning.kernels})
    return {name: tuning.count(name) for name in names}


def _bare(key: str, trace: str) -> ScheduleRecord:
    return ScheduleRecord("", key, "", (), 0, "[]", trace, 1.0)


def _plain(timing: Timing) -> dict[str, Any]:
    return {"us": timing.us, "median_us": timing.median_us, "mad_us": timing.mad_us, "error": timing.error}
