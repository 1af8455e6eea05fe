"""The adaptive switch between resident rungs, as each switch event reports it while the deadline swings."""

from __future__ import annotations

import torch

from tailorbird.compile.base import CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.device import Device
from tailorbird.types import KERNEL, Candidate
from tests.bench.outcome import Outcome, quantile
from tests.bench.small_nets import classifier, deploy, digit_images, serve_ready

_PERIOD, _TIGHT = 20, 4  # of 20 requests 4 have a deadline that only the small rung can meet


def measure(outcome: Outcome, device: Device, *, switches: int) -> None:
    """Swing the deadline under the two-channel policy until enough switches ran."""
    name = "adaptive switch between resident rungs: p99 at most 50 us"
    outcome.target(name, "time to make another resident rung the live one, two-channel policy")
    images = digit_images(4)
    nets = [classifier(8, 1), classifier(64, 2, stride=1)]
    example = (torch.from_numpy(images[:1]),)
    target = CompileTarget.from_card(device.card)
    modules = [backend("litert").build(capture(net, example), target) for net in nets]
    candidates = [Candidate(module.kind, module.module, module.inputs) for module in modules]
    small_us, large_us = (timing.cpu_median_us for timing in device.measure(candidates, KERNEL))
    served = serve_ready("switch", nets, images, device.card, slo_us=20 * large_us, cpu_us=(small_us, large_us))
    deploy(device, served)
    source = {served.built[0].inputs[0].name: images[:1]}
    begun = device.status().last_event
    for turn in range(3 * _PERIOD * switches):
        device.infer("switch", source, slo_us=0.7 * large_us if turn % _PERIOD < _TIGHT else 20 * large_us)
        if turn % 100 == 99 and device.deployment("switch").switches >= switches:
            break
    events = device.events(begun, kinds=("switch",), model="switch")
    times = [float(us) for event in events if (us := event.detail("actuation_us")) is not None]
    outcome.samples["switch_us"] = times
    outcome.figures["switch"] = {"switches": len(times), "rungs_us": [small_us, large_us]}
    if times:
        outcome.figures["switch"] |= {"p50_us": quantile(times, 0.5), "p99_us": quantile(times, 0.99)}
    outcome.judge(name, met=len(times) >= 100 and quantile(times, 0.99) <= 50)
