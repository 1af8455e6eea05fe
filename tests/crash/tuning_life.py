"""One life of a tuning program, to be killed: tunes a small network on a class of devices into a store.

python tuning_life.py STORE TRIALS
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.target import runtime_library
from tailorbird.db import Store
from tailorbird.device import Devices
from tailorbird.tune.builders import Builders
from tailorbird.tune.session import boards_of, pool_for, tune
from tailorbird.types import TimingProtocol

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v2")
BRIEF = TimingProtocol("kernel", min_runs=3, min_seconds=0.002, max_seconds=0.1)


def main(database: str, most_trials: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval()
    module = prepare(import_network(capture(network, (torch.randn(1, 8, 12, 12),))), TARGET)
    with ExitStack() as opened:
        store = opened.enter_context(Store(database))
        builders = opened.enter_context(Builders(TARGET, workers=1, timeout_s=120.0))
        options = {"lease_s": 2.0, "linger_s": 0.2, "attempts": 20}
        pool = opened.enter_context(pool_for(Devices(store), "class:board", TARGET, **options))
        tuning = tune(
            pool,
            [module],
            store.schedules,
            boards_of(TARGET),
            builders,
            runtime_library=runtime_library(TARGET.triple),
            budget_s=3600.0,
            most_trials=most_trials,
            least_gain=0.0,
            protocol=BRIEF,
            batch=4,
        )
    print(f"done {tuning.trials} {tuning.failed}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
