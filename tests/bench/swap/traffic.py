"""One piece of the load: a fresh agent, two client processes, deployments one after the other."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tailorbird.device import Device, LocalAgent
from tests.bench.small_nets import Served, deploy
from tests.bench.swap import ladders, settings

_ROOT = Path(__file__).parents[3]
_CLIENT_S = 600.0


@dataclass(frozen=True, slots=True)
class Piece:
    """What a piece has to do. policy: which one goes from rung to rung; bundles: that follow each other in turn."""

    requests: int
    deployments: int
    policy: str
    bundles: int = 4


def run(piece: Piece, out: Path) -> None:
    """Do a piece and write what was seen to `out` (.npz)."""
    with tempfile.TemporaryDirectory(prefix="tb") as name:
        folder = Path(name)
        agent = LocalAgent.start(folder / "s", name="bench")
        try:
            with Device.connect(agent.control) as device:
                seen = _serve(piece, device, folder)
        finally:
            agent.stop()
    part = out.with_name(f"part-{out.name}")
    np.savez(part, **seen)
    part.replace(out)


def _serve(piece: Piece, device: Device, folder: Path) -> dict[str, Any]:
    served = ladders.bundles(device, "swap", piece.bundles)
    for each in served:  # so that a deployment under load sends nothing
        deploy(device, each)
    device.set_policy("swap", piece.policy)
    known = ladders.versions(served)
    np.savez(folder / "arrays.npz", images=served[0].images, **{f"v{k}": each for k, each in enumerate(known.values())})
    clients: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(settings.CLIENTS):
            clients.append(_start(folder, number, piece, device, served, list(known)))
        seen = _deploy_all(piece, device, served)
        (folder / "stop").touch()
        for client in clients:
            if client.wait(_CLIENT_S) != 0:
                raise SystemExit("a client process failed")
    finally:
        for client in clients:
            client.kill()
            client.wait()
    results = [_load(folder / f"result{number}.npz") for number in range(settings.CLIENTS)]
    rows = np.concatenate([result["rows"] for result in results])
    return seen | {
        "rows": rows[np.argsort(rows[:, 0])],
        "requests": sum(int(result["requests"]) for result in results),
        "lost": [str(words) for result in results for words in result["lost"]],
        "wrong": [str(words) for result in results for words in result["wrong"]],
        "versions": list(known),
        "distance": ladders.distance(served),
        "policy": piece.policy,
    }


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _start(
    folder: Path, number: int, piece: Piece, device: Device, served: Sequence[Served], versions: Sequence[str]
) -> subprocess.Popen[bytes]:
    """A client process; returns once it is about to send its first request."""
    plan = {
        "target": f"unix:{device.address.inference}",
        "model": served[0].name,
        "arrays": str(folder / "arrays.npz"),
        "answers": {version: f"v{k}" for k, version in enumerate(versions)},
        "rungs": [rung.name for rung in served[0].bundle.manifest.rungs],
        "input": served[0].built[0].inputs[0].name,
        "output": served[0].built[0].outputs[0].name,
        "tolerance": served[0].tolerance,
        "lanes": settings.LANES,
        "requests": piece.requests // settings.CLIENTS,
        "phase_s": settings.PHASE_S,
        "swing_phases": settings.SWING_PHASES,
        "tight_us": settings.TIGHT_US,
        "relaxed_us": settings.RELAXED_US,
        "pinned_every": settings.PINNED_EVERY,
        "stop": str(folder / "stop"),
        "result": str(folder / f"result{number}.npz"),
    }
    path = folder / f"plan{number}.json"
    path.write_text(json.dumps(plan))
    command = [sys.executable, "-m", "tests.bench.swap.client", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT)
    assert process.stdout is not None
    with process.stdout as stdout:
        if stdout.readline() != b"up\n":
            process.kill()
            process.wait()
            raise SystemExit("a client process did not start")
    return process


def _deploy_all(piece: Piece, device: Device, served: Sequence[Served]) -> dict[str, Any]:
    """Deploy bundle after bundle, each followed by as long a time without: that is what latencies compare with."""
    cursor = device.status().last_event
    windows, moved, switched = [], [], []
    for _, bundle in zip(range(piece.deployments), itertools.cycle(served), strict=False):
        begun = time.time()
        device.stage(bundle.bundle.manifest_bytes)
        device.activate(bundle.bundle.sha256, commit=True)
        done = time.time()
        windows.append((begun, done))
        time.sleep(done - begun)
        for event in device.events(cursor, kinds=("switch", "activated")):
            cursor = event.sequence
            if event.kind == "activated":
                moved.append(event.time.timestamp())
            else:
                switched.append((event.time.timestamp(), float(event.detail("actuation_us") or "nan")))
    return {"windows": windows, "moved": moved, "switched": np.array(switched).reshape(-1, 2)}
