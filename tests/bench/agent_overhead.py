"""What the agent adds to an inference: the same module called bare and through the Unix socket, in turns."""

from __future__ import annotations

import time

import numpy as np

from tailorbird.device import Device
from tests.bench.outcome import Outcome, quantile
from tests.bench.small_nets import affine, deploy, serve_ready

#: (label, input shape, milliseconds the agent may add at the median)
CASES = (("1 KB", (1, 1, 16, 16), 1.5), ("602 KB", (1, 3, 224, 224), 3.0))


def measure(outcome: Outcome, device: Device, *, runs: int) -> None:
    """Fill in the figures of both cases and judge their targets."""
    for label, shape, limit_ms in CASES:
        name = f"inference, {label} tensor: p50 within {limit_ms:g} ms of the bare runtime"
        outcome.target(name, "over the Unix socket, one request at a time, alternating with the bare runtime")
        images = np.random.default_rng(0).standard_normal((4, *shape[1:]), np.float32)
        model = f"overhead-{label.replace(' ', '').lower()}"
        served = serve_ready(model, [affine(shape)], images, device.card)
        deploy(device, served)
        bare, through = _alternate(device, served, images, runs)
        added = quantile(through, 0.5) - quantile(bare, 0.5)
        outcome.samples[f"{label} bare_ms"] = bare
        outcome.samples[f"{label} agent_ms"] = through
        outcome.figures[f"overhead {label}"] = {
            "bare_p50_ms": quantile(bare, 0.5),
            "agent_p50_ms": quantile(through, 0.5),
            "agent_p99_ms": quantile(through, 0.99),
            "added_p50_ms": added,
        }
        outcome.judge(name, met=added <= limit_ms)


def _alternate(device: Device, served, images: np.ndarray, runs: int) -> tuple[list[float], list[float]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=served.built[0].module, num_threads=1)
    interpreter.allocate_tensors()
    where, out = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    name, answer = served.built[0].inputs[0].name, served.built[0].outputs[0].name
    bare, through = [], []
    for turn in range(runs + 20):
        image = images[turn % len(images)][None]
        start = time.perf_counter()
        interpreter.set_tensor(where, image)
        interpreter.invoke()
        expected = interpreter.get_tensor(out)
        middle = time.perf_counter()
        reply = device.infer(served.name, {name: image})
        end = time.perf_counter()
        if not np.allclose(reply.outputs[answer], expected, atol=served.tolerance):
            raise SystemExit("the agent and the bare runtime disagree")
        if turn >= 20:  # both are warm by then
            bare.append(1e3 * (middle - start))
            through.append(1e3 * (end - middle))
    return bare, through
