"""Half an hour of serving: whether memory or open files of daemon and worker grow."""

from __future__ import annotations

import itertools
import time

import numpy as np

from tailorbird.device import Device
from tests.bench.outcome import Outcome
from tests.bench.processes import family, open_files, rss_mib
from tests.bench.small_nets import classifier, deploy, digit_images, serve_ready

_MEMORY = "soak of 30 minutes: RSS grows by less than 1 MiB per hour"
_FILES = "soak of 30 minutes: open files stay as many"
_LEAST_S = 1800.0
_PERIOD_S = 0.02  # between requests
_LOOK_S = 5.0
_SETTLED = 0.2  # of the time, after which memory is watched


def measure(outcome: Outcome, device: Device, pid: int, *, seconds: float) -> None:
    """Send paced requests under the adaptive policy, look at all processes of the agent every five seconds.

    The judgement is of a soak of at least 30 minutes; a shorter one gives its figures alone.
    """
    outcome.target(_MEMORY, "slope of a line through the sum over daemon and worker, the first fifth of the time apart")
    outcome.target(_FILES, "most in the second half of the time at most the most in the first, daemon and worker")
    images = digit_images(4)
    served = serve_ready("soak", [classifier(8, 1), classifier(64, 2, stride=1)], images, device.card, slo_us=20_000.0)
    deploy(device, served)
    source = {served.built[0].inputs[0].name: images[:1]}
    begun = time.monotonic()
    looks: list[tuple[float, float, int]] = []
    for number in itertools.count(1):
        device.infer("soak", source)
        now = time.monotonic() - begun
        if now >= len(looks) * _LOOK_S:
            pids = family(pid)
            looks.append((now, sum(map(rss_mib, pids)), sum(map(open_files, pids))))
        if now >= seconds:
            break
        time.sleep(max(0.0, begun + number * _PERIOD_S - time.monotonic()))
    times, memory, files = (np.array(column) for column in zip(*looks, strict=True))
    late = times >= _SETTLED * seconds
    slope = float(np.polyfit(times[late], memory[late], 1)[0]) * 3600
    half = len(files) // 2
    outcome.samples["soak_rss_mib"], outcome.samples["soak_open_files"] = memory.tolist(), files.tolist()
    outcome.figures["soak"] = {"seconds": seconds, "requests": number, "rss_mib_per_hour": slope}
    if seconds >= _LEAST_S:
        outcome.judge(_MEMORY, met=slope < 1)
        outcome.judge(_FILES, met=bool(files[half:].max() <= files[:half].max()))
