"""The one JSON object every benchmark prints: machine, figures, raw samples, targets and which of them are met."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Outcome:
    """Figures gathered so far. A target that was not measured counts as not met."""

    schema: str
    suite: str
    figures: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)
    met: dict[str, bool] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    def target(self, name: str, wording: str) -> None:
        """Declare a target before it is measured."""
        self.targets[name] = wording
        self.met.setdefault(name, False)

    def judge(self, name: str, *, met: bool) -> None:
        """Record whether a declared target holds."""
        if name not in self.targets:
            raise KeyError(f"undeclared target {name}")
        self.met[name] = bool(met)

    def to_json(self) -> str:
        """The object, indented, with sorted keys."""
        return json.dumps(
            {
                "schema": self.schema,
                "suite": self.suite,
                "machine": machine(),
                "seconds": round(time.time() - self.started, 1),
                "figures": self.figures,
                "samples": self.samples,
                **({"rows": self.rows} if self.rows else {}),
                "targets": self.targets,
                "met": self.met,
            },
            indent=1,
            sort_keys=True,
        )


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def quantile(samples: list[float], q: float) -> float:
    """The q-quantile of the samples (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def arguments(description: str, *, work: bool = False) -> argparse.Namespace:
    """The options every benchmark has; work: and a folder for what need not be measured twice."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--suite", choices=("quick", "full"), default="full")
    parser.add_argument("--json", type=Path, default=None, help="write the object here as well as to stdout")
    if work:
        parser.add_argument("--work", type=Path, default=None, metavar="DIR", help="keep what was measured here")
    return parser.parse_args()


def publish(outcome: Outcome, path: Path | None) -> None:
    """Print the object, and write it where asked."""
    text = outcome.to_json()
    if path is not None:
        path.write_text(text + "\n")
    sys.stdout.write(text + "\n")
