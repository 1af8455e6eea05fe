"""A made-up fleet with a known law: chains of six operators, devices that weigh the same costs differently."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LAYERS, OPERATORS = 6, 5


@dataclass(frozen=True)
class Fleet:
    """features: one-hot and three sums, unscaled; latency_ms: by device."""

    one_hot: np.ndarray
    features: np.ndarray
    latency_ms: dict[str, np.ndarray]

    def proxies(self, rows, without: str) -> dict[str, np.ndarray]:
        return {name: column[rows] for name, column in self.latency_ms.items() if name != without}


def fleet(count: int = 300, devices: int = 6, seed: int = 0, noise: float = 0.01) -> Fleet:
    """Latencies are compute + traffic + calls of the live operators, each device with rates of its own."""
    rng = np.random.default_rng(seed)
    genes = rng.integers(0, OPERATORS, (count, LAYERS))
    one_hot = np.eye(OPERATORS)[genes].reshape(count, -1)
    compute = np.array([0, 0, 1e6, 9e6, 2e5])[genes] * 2.0 ** np.arange(LAYERS)
    traffic = np.array([0, 1, 2, 2, 1])[genes] * 2.0 ** np.arange(LAYERS)[::-1] * 1e3
    sums = np.stack([compute.sum(1), traffic.sum(1), (genes > 1).sum(1)], axis=1)
    rates = rng.lognormal(0, 0.7, (devices, 3)) * np.array([2e-8, 3e-5, 0.3])
    taste = rng.lognormal(0, 0.15, (devices, one_hot.shape[1]))
    own = (one_hot @ taste.T) * 0.1
    latency = (sums @ rates.T + own + 0.5) * rng.lognormal(0, noise, (count, devices))
    return Fleet(one_hot, np.concatenate([one_hot, sums], axis=1), {f"d{i}": latency[:, i] for i in range(devices)})
