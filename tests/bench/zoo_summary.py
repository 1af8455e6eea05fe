"""From the rows of the zoo to figures, targets and a table a person can read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.outcome import Outcome

Row = dict[str, Any]

MODELS, EXACT, FRACTION, COVERED = 140, 0.98, 0.9, 0.93
BUILD_SECONDS, FORWARD, TRAINING = 10.0, 1.3, 1.5

_TARGETS = {
    "models": f"at least {MODELS} networks, all of them run",
    "exact": f"at least {EXACT:.0%} of the networks bitwise exact in every configuration",
    "wrong": "no wrong answer anywhere",
    "elastic": f"elastic fraction of at least {FRACTION} in {COVERED:.0%} of the networks",
    "depth": "blocks to skip found in every residual network",
    "heads": "heads elastic in every attention network",
    "build": f"a ResNet-50 compiled in at most {BUILD_SECONDS:.0f} s on one core",
    "forward": f"a subnet of the supernet takes at most {FORWARD}x the time of the extracted one, batch 32",
    "training": f"a training step of the supernet takes at most {TRAINING}x that of the extracted subnet, batch 32",
}


def declare(outcome: Outcome) -> None:
    """Name the targets before anything is measured."""
    for name, wording in _TARGETS.items():
        outcome.target(name, wording)


def judge(outcome: Outcome, rows: list[Row], speed: Row | None, *, whole: bool) -> None:
    """Fill in figures and verdicts. whole: the rows are the full list; targets on its size hold for nothing less."""
    total = max(1, len(rows))
    status = Counter(row["status"] for row in rows)
    covered = [row for row in rows if row.get("elastic_fraction", 0) >= FRACTION]
    missing = {trait: [row["name"] for row in rows if row["wants"][trait] and not row.get(trait)] for trait in _TRAITS}
    outcome.rows = rows
    outcome.figures |= {
        "models": len(rows),
        "status": dict(status),
        "exact_share": round(status["exact"] / total, 4),
        "captured": sum(row.get("captured", False) for row in rows),
        "full_bitwise": sum(row.get("full") == "bitwise" for row in rows),
        "configurations": dict(sum((Counter(row.get("configurations", {})) for row in rows), Counter())),
        "reexport_bitwise": sum(row.get("reexport") == "bitwise" for row in rows),
        "macs_equal_to_counting": sum(len(set(row["macs"])) == 1 for row in rows if "macs" in row),
        "any_batch": sum(row.get("any_batch", False) for row in rows),
        "elastic_share": round(len(covered) / total, 4),
        "width_only_elastic_share": round(sum(r.get("width_fraction", 0) >= FRACTION for r in rows) / total, 4),
        "median_smallest_share": _median([r["params_smallest"] / r["params"] for r in rows if "params_smallest" in r]),
        "median_build_seconds": _median([row["build_seconds"] for row in rows if "build_seconds" in row]),
        "without": missing,
        "not_exact": {row["name"]: row["status"] for row in rows if row["status"] != "exact"},
        "unknown_ops": dict(Counter(op for row in rows for op in set(row.get("unknown_ops", ()))).most_common()),
        "torch_pruning": _pruning(rows),
    }
    outcome.judge("models", met=whole and len(rows) >= MODELS)
    outcome.judge("exact", met=bool(rows) and status["exact"] / total >= EXACT)
    outcome.judge("wrong", met=bool(rows) and not status["wrong"])
    outcome.judge("elastic", met=bool(rows) and len(covered) / total >= COVERED)
    for trait in _TRAITS:
        outcome.judge(trait, met=bool(rows) and not missing[trait])
    if speed and "error" not in speed:
        outcome.samples |= speed["samples"]
        outcome.figures["speed"] = speed["figures"]
        outcome.judge("build", met=speed["figures"]["build_seconds"] <= BUILD_SECONDS)
        outcome.judge("forward", met=all(x <= FORWARD for x in speed["figures"]["forward"].values()))
        outcome.judge("training", met=all(x <= TRAINING for x in speed["figures"]["training"].values()))
    elif speed:
        outcome.figures["speed"] = {"error": speed["error"]}


_TRAITS = ("depth", "heads")


def _median(values: list[float]) -> float | None:
    return round(sorted(values)[len(values) // 2], 4) if values else None


def _pruning(rows: list[Row]) -> dict[str, Any]:
    """What Torch-Pruning did with the same list, and where one of the two is right and the other is not."""
    found = [row for row in rows if "pruning" in row]
    works = {row["name"] for row in found if row["pruning"].get("shapes")}
    ours = {row["name"] for row in found if row["status"] == "exact"}
    return {
        "models": len(found),
        "ran": sum(row["pruning"].get("ran", False) for row in found),
        "forward": sum(row["pruning"].get("forward", False) for row in found),
        "shapes_right": len(works),
        "pruned_at_all": sum(row["pruning"].get("share", 1) < 1 and row["name"] in works for row in found),
        "median_share_of_parameters_left": _median([r["pruning"]["share"] for r in found if r["name"] in works]),
        "exact_only_here": len(ours - works),
        "works_only_there": sorted(works - ours),
    }


def table(outcome: Outcome, rows: list[Row]) -> str:
    """The rows beside Torch-Pruning's, the figures and the verdicts as text."""
    shown = Table("network", "status", "full", "subnets", "elastic", "width", "smallest", "depth", "heads", "build s")
    for name in ("reexport", "MACs", "Torch-Pruning"):
        shown.add_column(name)
    for row in rows:
        counts = row.get("configurations", {})
        macs = row.get("macs")
        shown.add_row(
            row["name"],
            row["status"],
            row.get("full", "-"),
            f"{counts.get('bitwise', 0)}/{sum(counts.values())}",
            _share(row.get("elastic_fraction")),
            _share(row.get("width_fraction")),
            _share(row["params_smallest"] / row["params"] if "params_smallest" in row else None),
            _count(row, "depth"),
            _count(row, "heads"),
            str(row.get("build_seconds", "-")),
            row.get("reexport", "-").split(":")[0],
            "-" if macs is None else "equal" if len(set(macs)) == 1 else f"{macs[0]:,} not {macs[1]:,}",
            _verdict(row.get("pruning")),
        )
    console = Console(width=190, color_system=None)
    with console.capture() as captured:
        console.print(shown)
        for name, value in outcome.figures.items():
            console.print(f"{name}: {value}", highlight=False)
        for name, wording in outcome.targets.items():
            console.print(f"{'met    ' if outcome.met[name] else 'NOT MET'} {wording}", highlight=False)
    return captured.get()


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _count(row: Row, trait: str) -> str:
    return f"{row.get(trait, '-')}{' !' if row['wants'][trait] and not row.get(trait) else ''}"


def _verdict(pruning: Row | None) -> str:
    if pruning is None:
        return "-"
    if pruning.get("shapes"):
        return f"{pruning['share']:.0%} left"
    kind = "wrong shapes" if pruning.get("forward") else "does not run after" if pruning.get("ran") else "fails"
    return f"{kind}: {pruning['error'].split(':')[0]}" if pruning.get("error") else kind
