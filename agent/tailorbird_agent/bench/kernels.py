"""The device's own limits, through numpy: what the roofline of every kernel is made of."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tailorbird_agent.bench.protocol import Samples, time_call
from tailorbird_agent.bench.stopwatch import Stopwatch
from tailorbird_agent.hardware.cache import read_caches
from tailorbird_agent.hardware.tree import Tree
from tailorbird_agent.worker.plan import Protocol

_GEMM_SIZES = (256, 512, 1024)
#: Elements that numpy works through at a time: operands of a chunk stay in the first-level cache's neighbourhood.
_TRIAD_CHUNK = 8192
_TRIAD_MAX_BYTES = 256 * 1024 * 1024
_TRIAD_DEFAULT_BYTES = 32 * 1024 * 1024


def measure_figure(
    name: str, protocol: Protocol, stopwatch: Stopwatch, available_bytes: float | None, look: Callable[[], None]
) -> tuple[float, str, Samples]:
    """Value, unit and samples of one of FIGURE_NAMES; available_bytes bounds the arrays, `look` is time_call's."""
    if name == "gemm-fp32":
        return _gemm(protocol, stopwatch, look)
    if name == "stream-triad":
        return _triad(protocol, stopwatch, available_bytes, look)
    raise ValueError(f"unknown figure {name!r}")


def _gemm(protocol: Protocol, stopwatch: Stopwatch, look: Callable[[], None]) -> tuple[float, str, Samples]:
    """Best GFLOP/s of square float32 products, 2 n^3 operations each, over sizes that suit small and large caches."""
    share = replace(
        protocol,
        min_time_ms=protocol.min_time_ms / len(_GEMM_SIZES),
        max_time_ms=protocol.max_time_ms / len(_GEMM_SIZES),
    )
    best: tuple[float, str, Samples] | None = None
    for size in _GEMM_SIZES:
        samples = time_call(_product(size), share, stopwatch, look)
        gflops = 2.0 * size**3 / (statistics.median(samples.cpu_us) * 1e3)
        if best is None or gflops > best[0]:
            best = (gflops, "GFLOP/s", samples)
    assert best is not None
    return best


def _product(size: int) -> Callable[[], object]:
    random = np.random.default_rng(0)
    left, right = (random.standard_normal((size, size), np.float32) for _ in range(2))
    out = np.empty((size, size), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _triad(
    protocol: Protocol, stopwatch: Stopwatch, available_bytes: float | None, look: Callable[[], None]
) -> tuple[float, str, Samples]:
    """GB/s of a = b + s * c by one thread (McCalpin, STREAM), over arrays four times the last-level cache.

    Worked through in chunks whose product stays in cache, so memory sees what STREAM counts: two reads and one write.
    """
    caches = read_caches(Tree())
    wanted = 4 * max((cache.size_bytes for cache in caches), default=_TRIAD_DEFAULT_BYTES // 4)
    size_bytes = min(wanted, _TRIAD_MAX_BYTES, int((available_bytes or _TRIAD_DEFAULT_BYTES * 8) / 8))
    count = max(1, size_bytes // 8 // _TRIAD_CHUNK) * _TRIAD_CHUNK
    a, b, c = np.zeros(count), np.ones(count), np.full(count, 2.0)
    scaled = np.empty(_TRIAD_CHUNK)
    chunks = [slice(start, start + _TRIAD_CHUNK) for start in range(0, count, _TRIAD_CHUNK)]
    views = [(a[chunk], b[chunk], c[chunk]) for chunk in chunks]

    def triad() -> None:
        for target, left, right in views:
            np.multiply(right, 3.0, out=scaled)
            np.add(left, scaled, out=target)

    samples = time_call(triad, protocol, stopwatch, look)
    return 3 * 8 * count / (statistics.median(samples.cpu_us) * 1e3), "GB/s", samples
