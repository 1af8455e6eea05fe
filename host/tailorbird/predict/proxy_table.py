"""What is known of proxy devices: features of architectures and the latencies measured on each device.

Features come as they are. Columns of two values are mapped to 0 and 1, all others to unit variance, and every column
is centred; columns without any variation tell nothing and are dropped. Rows need not be measured on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tailorbird.errors import UsageError

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """An affine map of features, fitted once per search space.

    kept: indices of the columns that vary; counted: which of those take more than two values.
    """

    columns: int
    kept: Array
    offset: Array
    unit: Array
    counted: Array

    @classmethod
    def of(cls, features: Array) -> FeatureScale:
        """Fit to features (N, P), N at least 1."""
        low, high = features.min(axis=0), features.max(axis=0)
        kept = np.flatnonzero(high - low > 1e-12 * np.maximum(np.abs(low), np.abs(high)))
        columns = features[:, kept]
        two_valued = ((columns == low[kept]) | (columns == high[kept])).all(axis=0)
        unit = np.where(two_valued, (high - low)[kept], columns.std(axis=0))
        return cls(features.shape[1], kept, columns.mean(axis=0), unit, ~two_valued)

    def __call__(self, features: Array) -> Array:
        """Scaled features, (N, P) to (N, number kept)."""
        return (features[:, self.kept] - self.offset) / self.unit


@dataclass(frozen=True, slots=True, eq=False)
class ProxyTable:
    """Architectures measured on proxy devices.

    features: (N, P), unscaled; latency_ms: (N, D) in milliseconds, NaN where not measured; names: D devices.
    """

    features: Array
    names: tuple[str, ...]
    latency_ms: Array
    scale: FeatureScale
    digest: bytes

    @classmethod
    def of(cls, features: Array, latency_ms_by_device: Mapping[str, Array]) -> ProxyTable:
        """Check and gather measurements of at least one proxy.

        Raises UsageError for features that are not finite, for latencies that are not positive or do not fit the
        features, and for proxies without any measurement.
        """
        matrix = feature_matrix(features, "the proxies' architectures")
        if not isinstance(latency_ms_by_device, Mapping):
            raise UsageError(
                "The proxies have no names.",
                why=f"their latencies came as {type(latency_ms_by_device).__name__}",
                fix="Give a dict: the name of each device, and its latencies.",
                reason="NO_PROXY",
            )
        if not matrix.shape[1]:
            raise UsageError(
                "The architectures have no features.",
                why=f"shape {matrix.shape}",
                fix="Compute at least one column: operation counts, one-hot choices, kernel sums.",
                reason="BAD_FEATURES",
            )
        if not len(matrix) or not latency_ms_by_device:
            raise UsageError(
                "There is nothing to transfer from.",
                why=f"{len(latency_ms_by_device)} proxy devices, {len(matrix)} architectures",
                fix="Profile this search space on at least one device first.",
                reason="NO_PROXY",
            )
        names = tuple(sorted(latency_ms_by_device))
        columns = [latencies(latency_ms_by_device[name], len(matrix), f"proxy {name!r}") for name in names]
        table = np.stack(columns, axis=1)
        if empty := [name for name, column in zip(names, columns, strict=True) if not np.isfinite(column).any()]:
            raise UsageError(
                f"No latency is known of {', '.join(map(repr, empty))}.",
                why="every value is NaN, which means not measured",
                fix="Leave the device out, or profile it.",
                reason="NO_PROXY",
            )
        digest = hashlib.blake2b(repr((matrix.shape, names)).encode(), digest_size=16)
        digest.update(matrix.tobytes())
        digest.update(table.tobytes())
        return cls(matrix, names, table, FeatureScale.of(matrix), digest.digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProxyTable) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def feature_matrix(features: Array, of_what: str, columns: int | None = None) -> Array:
    """Features as finite float64 (N, P). Raises UsageError."""
    matrix = np.ascontiguousarray(_numbers(features, f"The features of {of_what}", "BAD_FEATURES"))
    if matrix.size == 0 and columns is not None:
        return np.empty((0, columns))
    if matrix.ndim != 2 or (columns is not None and matrix.shape[1] != columns):
        wanted = "(N, P)" if columns is None else f"(N, {columns})"
        raise UsageError(
            f"The features of {of_what} have the wrong shape.",
            why=f"{matrix.shape}, not {wanted}",
            fix="Compute all features with the same function on the same search space.",
            reason="BAD_FEATURES",
        )
    if not np.isfinite(matrix).all():
        raise UsageError(
            f"The features of {of_what} are not all finite.",
            why=f"{int((~np.isfinite(matrix)).sum())} values are NaN or infinite",
            fix="A count that does not apply is 0, not NaN.",
            reason="BAD_FEATURES",
        )
    return matrix


def _numbers(values: Array, what: str, reason: str) -> Array:
    """As float64 of any shape. Raises UsageError for text, for complex numbers, and for rows of different lengths."""
    try:
        found = np.asarray(values)
        kind = found.dtype.kind
        words = kind not in "biufO" or (kind == "O" and any(isinstance(value, str) for value in found.flat))
        why = f"they are {found.dtype.name}" if words else ""
        numbers = None if words else found.astype(np.float64)
    except (TypeError, ValueError) as error:
        numbers, why = None, str(error)
    if numbers is None:
        fix = "Give a numpy array of floats."
        raise UsageError(f"{what} are not real numbers in rows of one length.", why=why, fix=fix, reason=reason)
    return numbers


def latencies(values_ms: Array, rows: int, of_what: str) -> Array:
    """Latencies as float64 (rows,), positive or NaN. Raises UsageError."""
    column = _numbers(values_ms, f"The latencies of {of_what}", "BAD_LATENCIES")
    if column.shape != (rows,):
        raise UsageError(
            f"The latencies of {of_what} do not fit its architectures.",
            why=f"shape {column.shape} for {rows} architectures",
            fix="Give one latency for each row of features, NaN where it was not measured.",
            reason="BAD_LATENCIES",
        )
    if ((column <= 0) | np.isinf(column)).any():
        raise UsageError(
            f"The latencies of {of_what} are not all positive.",
            why=f"the least is {np.nanmin(column):g}, the greatest {np.nanmax(column):g}",
            fix="Give milliseconds above zero, and NaN where a model did not run or was not measured.",
            reason="BAD_LATENCIES",
        )
    return column
