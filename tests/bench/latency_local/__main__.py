"""python -m tests.bench.latency_local [--suite quick|full] [--work DIR] [--json FILE] [--only NET/CONTEXT ...]

Resumable: what was measured is in DIR and not measured again. On-CPU time throughout, so that a busy machine changes
little. On a quiet one the quick suite takes about 15 minutes, the full one about 50.

Costs are wall seconds, building, upload and warm-up included, and are compared with

  (a) measuring 2,000 subnets one by one, and
  (b) a table of operations without deduplication. What that is follows AutoTailor's own tool (the artifact of Liu et
      al. 2025): it walks through a list of architectures and, when told not to drop duplicates, writes down every
      operation of every architecture. So (b) has 2,000 subnets times the operations of each. Its cost per entry is the
      mean over 120 entries drawn from such a list and measured one by one, equal ones anew.

Reported beside (b), and not judged, are tables that already drop much: an entry for each operation at each place in the
network and each joint choice of what is elastic in its block; the same for what is elastic at that place alone; and an
entry for each fused kernel at each place. The last is "entries" of a KernelPlan.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tailorbird.db import Store
from tailorbird.device import Device, LocalAgent
from tests.bench.latency_local.judging import judge
from tests.bench.latency_local.measuring import Bench, Measured
from tests.bench.latency_local.settings import CONTEXTS, FULL, NETWORKS, QUICK, Suite
from tests.bench.latency_local.subjects import Subjects
from tests.bench.outcome import Outcome, publish

#: (name in `met`, wording, predictor, figure, limit, at most rather than at least)
_ERROR_TARGETS = tuple(
    (f"{label}: {figure} {'<=' if below else '>='} {limit:g}", predictor, figure, limit, below)
    for label, predictor in (
        ("kernel sum + 10 samples", "kernel sum + 10"),
        ("proxy context -> new context, 10 samples", "transfer, 10"),
    )
    for figure, limit, below in (("mape", 5.0, True), ("within10", 95.0, False), ("srcc", 0.98, False))
)
_SAVING_TARGETS = (
    ("profiling >= 11x below 2,000 subnets end to end", "saving, 2000 subnets end to end"),
    ("profiling >= 11x below a per-operation table without deduplication", "saving, operations of 2000 subnets"),
)


def main() -> None:
    """Measure, judge, publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=("quick", "full"), default="full")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tailorbird-latency-local")
    parser.add_argument("--only", nargs="*", default=None, help="NET/CONTEXT, for a part of the suite")
    options = parser.parse_args()
    suite = QUICK if options.suite == "quick" else FULL
    work = options.work / suite.name
    work.mkdir(parents=True, exist_ok=True)
    outcome = Outcome("tailorbird.latency_local/1", suite.name)
    for name, *_ in (*_ERROR_TARGETS, *_SAVING_TARGETS):
        outcome.target(name, "in every network and context of the suite, at least 100 held-out subnets each")
    measured: dict[tuple[str, str], Measured] = {}
    everything = {name: Subjects(network, work, _runtimes(suite, name)) for name, network in NETWORKS.items()}
    agent = LocalAgent.start(work / "agent", name="bench")
    try:
        with Store(work / "store.db") as store, Device.connect(agent.control) as device:
            bench = Bench(device, store, work, suite)
            for net, name in suite.contexts:
                context = CONTEXTS[name]
                if options.only is not None and f"{net}/{name}" not in options.only:
                    continue
                if context.needs and context.needs not in device.card.isa_features:
                    sys.stderr.write(f"{net}, {name}: this CPU has no {context.needs}\n")
                    continue
                if context.threads > device.card.cores:
                    sys.stderr.write(f"{net}, {name}: this machine has {device.card.cores} cores\n")
                    continue
                measured[net, name] = bench.measure(everything[net], context)
    finally:
        agent.stop()
    sys.stderr.write("\n")
    for (net, name), target in measured.items():
        others = {other: m for (of, other), m in measured.items() if of == net and other != name}
        outcome.figures[f"{net}, {name}"] = judge(everything[net], target, others)
        outcome.samples[f"{net}, {name}: held-out us"] = [round(target.subnets_us[c], 2) for c in target.held_out]
    _settle(outcome, complete=len(measured) == len(suite.contexts))
    publish(outcome, options.json)


def _runtimes(suite: Suite, net: str) -> frozenset[str]:
    return frozenset(CONTEXTS[name].runtime for of, name in suite.contexts if of == net)


def _settle(outcome: Outcome, *, complete: bool) -> None:
    rows = list(outcome.figures.values())
    enough = complete and bool(rows) and all(row["held_out"] >= 100 for row in rows)
    for name, predictor, figure, limit, below in _ERROR_TARGETS:
        values = [row["predictors"].get(predictor, {}).get(figure) for row in rows]
        known = [value for value in values if value is not None]
        holds = all(value <= limit if below else value >= limit for value in known)
        outcome.judge(name, met=enough and len(known) == len(rows) and holds)
    for name, saving in _SAVING_TARGETS:
        costs = [row["cost"] for row in rows]
        counted = all(min(cost["subnets_measured"], cost["entries_measured"]) >= 100 for cost in costs)
        outcome.judge(name, met=enough and counted and all(cost[saving] >= 11 for cost in costs))


if __name__ == "__main__":
    main()
