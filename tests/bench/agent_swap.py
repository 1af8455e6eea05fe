"""Deployments under load: 100 blue/green swaps, two stock clients, every answer held to the version that claims it."""

from __future__ import annotations

import bisect
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tailorbird.device import Device
from tests.bench.outcome import Outcome, quantile
from tests.bench.small_nets import Served, classifier, deploy, digit_images, serve_ready

_LANES = 8
_CLIENTS = 2


def measure(outcome: Outcome, device: Device, *, swaps: int, requests: int) -> None:
    """Fill in the swap figures and judge the target."""
    name = "swap: 0 lost or wrong answers in 20,000 requests across 100 swaps"
    outcome.target(name, "two client processes, at least 4 requests in flight at every swap")
    images = digit_images(24)
    pair = [serve_ready("swap", [classifier(16, seed)], images, device.card) for seed in (1, 2)]
    distance = float(np.abs(pair[0].answers["r0"] - pair[1].answers["r0"]).max(axis=1).min())
    if distance <= 100 * pair[0].tolerance:
        raise SystemExit(f"the two bundles answer alike ({distance:.3g}): the check would prove nothing")
    deploy(device, pair[0])
    deploy(device, pair[1])
    with tempfile.TemporaryDirectory() as folder:
        clients = _start_clients(Path(folder), device, pair, requests)
        moments = [_swap(device, served) for served, _ in zip(itertools.cycle(pair), range(swaps), strict=False)]
        (Path(folder) / "stop").touch()
        for process in clients:
            if process.wait(600) != 0:
                raise SystemExit("a client process failed")
        results = [json.loads((Path(folder) / f"result{k}.json").read_text()) for k in range(_CLIENTS)]
    lost = [entry for result in results for entry in result["lost"]]
    wrong = [entry for result in results for entry in result["wrong"]]
    total = sum(result["requests"] for result in results)
    spans = [tuple(span) for result in results for span in result["spans"]]
    in_flight = _in_flight(spans, [moment for _, moment, _ in moments])
    latencies = [1e3 * (end - start) for start, end in spans] or [float("nan")]
    outcome.figures["swap"] = {
        "requests": total,
        "swaps": len(moments),
        "lost": len(lost),
        "wrong": len(wrong),
        "first_failures": (lost + wrong)[:5],
        "in_flight_at_swap": {"min": min(in_flight), "median": quantile([float(n) for n in in_flight], 0.5)},
        "smallest_distance_over_tolerance": round(distance / pair[0].tolerance),
        "activate_s": {"p50": quantile([done - begun for begun, _, done in moments], 0.5)},
        "latency_ms": {"p50": quantile(latencies, 0.5), "p99": quantile(latencies, 0.99), "max": max(latencies)},
    }
    outcome.samples["swap_in_flight"] = [float(n) for n in in_flight]
    outcome.judge(
        name,
        met=not lost and not wrong and total >= 20_000 and len(moments) >= 100 and min(in_flight) >= 4,
    )


def _start_clients(folder: Path, device: Device, pair: list[Served], requests: int) -> list[subprocess.Popen[bytes]]:
    np.savez(folder / "arrays.npz", images=pair[0].images, a=pair[0].answers["r0"], b=pair[1].answers["r0"])
    target = f"unix:{device.address.inference}"
    processes = []
    for number in range(_CLIENTS):
        plan = {
            "target": target,
            "model": "swap",
            "arrays": str(folder / "arrays.npz"),
            "answers": {f"{s.bundle.sha256[:12]}/r0": key for s, key in zip(pair, "ab", strict=True)},
            "input": pair[0].built[0].inputs[0].name,
            "output": pair[0].built[0].outputs[0].name,
            "tolerance": pair[0].tolerance,
            "lanes": _LANES,
            "requests": requests // _CLIENTS,
            "stop": str(folder / "stop"),
            "result": str(folder / f"result{number}.json"),
        }
        (folder / f"plan{number}.json").write_text(json.dumps(plan))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.swap_client", str(folder / f"plan{number}.json")],
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
    return processes


def _swap(device: Device, served: Served) -> tuple[float, float, float]:
    """Activate and commit the bundle; returns the wall-clock seconds of call, pointer move and return."""
    before = device.status().last_event
    begun = time.time()
    device.stage(served.bundle.manifest_bytes)
    device.activate(served.bundle.sha256, commit=True)
    done = time.time()
    moved = [event for event in device.events(before) if event.kind == "activated"]
    return begun, moved[-1].time.timestamp() if moved else done, done


def _in_flight(spans: list[tuple[float, float]], moments: list[float]) -> list[int]:
    """Requests that had started and not ended at each moment."""
    starts, ends = sorted(s for s, _ in spans), sorted(e for _, e in spans)
    return [bisect.bisect_right(starts, moment) - bisect.bisect_right(ends, moment) for moment in moments]
