"""python -m tests.bench.cost.collect --work DIR [--kernels N] [--schedules N] [--only CONTEXT ...] [--export FILE]

Measures the records that the cost model is pretrained and judged on, through an agent of its own at low priority.
Resumable: what is in DIR is not measured again. One machine stands for several devices: code for an older x86 has
narrower vectors and fewer registers, while caches, ports and clock stay what they are.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import Devices, local
from tailorbird.tune.builders import Builders
from tailorbird.tune.cost.collect import Bench, Step, collect
from tailorbird.types import DeviceCard
from tailorbird.types.schedule import DeviceClass
from tests.bench.cost.contexts import CONTEXTS, Context
from tests.bench.cost.networks import subjects

_NICE = 5
_SAID_EVERY = 64


def main() -> None:
    """Collect, and write the file that the benchmark reads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tailorbird-cost")
    parser.add_argument("--kernels", type=int, default=8, help="of each network")
    parser.add_argument("--schedules", type=int, default=64, help="of each kernel")
    parser.add_argument("--only", nargs="*", default=list(CONTEXTS), choices=list(CONTEXTS))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    os.nice(_NICE)
    device = local(options.work / "agent", name="records")  # one that a killed run left behind will do
    started = time.perf_counter()

    def say(step: Step) -> None:
        if step.done % _SAID_EVERY == 0:
            seconds = time.perf_counter() - started
            rate = seconds / step.done
            sys.stderr.write(f"{step.done:,} of {step.wanted:,} records, {rate:.2f} s each; {step.record.target}\n")

    try:
        with ExitStack() as opened:
            store = opened.enter_context(Store(options.work / "store.db"))
            card = device.card
            devices = Devices(store)
            devices.add("records", str(options.work / "agent"), ())
            pool = opened.enter_context(devices.pool("records"))
            library = runtime_library(card.triple)
            benches = []
            for name in options.only:
                target, boards = target_of(card, CONTEXTS[name]), boards_of(card, CONTEXTS[name])
                builders = opened.enter_context(Builders(target, workers=2, timeout_s=120.0))
                benches.append(Bench(builders, boards, pool, library))
            found = list(subjects(benches[0].builders.target, options.kernels))
            ordered = [each for one in itertools.zip_longest(*found) for each in one if each is not None]
            added = collect(
                ordered,
                benches,
                store.schedules,
                count=options.schedules,
                round_size=len(found),
                board="records",
                on_step=say,
            )
    finally:
        device.close()
        if device.agent is not None:
            device.agent.stop()
    sys.stderr.write(f"{added:,} records added in {time.perf_counter() - started:.0f} s\n")


def target_of(card: DeviceCard, context: Context) -> CompileTarget:
    """What kernels of a context are compiled for on this machine."""
    return CompileTarget(card.triple, context.llvm_cpu, context.threads)


def boards_of(card: DeviceCard, context: Context) -> DeviceClass:
    """This machine's class of boards as if it had no more than the context's instructions."""
    features = tuple(sorted(set(card.isa_features) - context.lacks))
    caches = DeviceClass.of_card(card, context.threads).caches
    return DeviceClass(card.triple, context.llvm_cpu, context.threads, card.cpu_model, card.cores, features, caches)


if __name__ == "__main__":
    main()
