"""Has a device become faster or slower since its subnets were measured?

Each subnet is compared with its own baseline, never with a prediction: few-shot predictions are off by a bias that
belongs to the subnet, and a cumulative sum over such residuals raises alarms on a device that does not change.

    nothing       every ratio now / then is within the noise, or within 3 % (25 % where others used the cores)
    uniform       all moved by one factor: the old times are rescaled by it
    kernel mix    ratios differ from subnet to subnet: the device has to be measured anew
    context       another kernel, driver, runtime or power mode: no drift, but another context
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailorbird.types import Config, Context, Measurement, Verdict

#: Changes smaller than this are not worth a correction; two runs on a busy machine differ by as much.
TOLERANCE = 0.03
#: The same where one of both measurements was disturbed: on shared cores two medians of on-CPU time differ by up to a
#: fifth without any change of the device, for caches are shared, too.
DISTURBED_TOLERANCE = 0.25
#: Subnets to compare at least: one alone cannot tell a uniform shift from its own.
LEAST = 2
_NORMAL_99 = 2.576
#: Of a median of n normal samples, in units of deviation / sqrt(n).
_MEDIAN_ERROR = 1.2533
_MAD_TO_DEVIATION = 1.4826


class Shift(enum.StrEnum):
    """What happened, and with that what to do."""

    NOTHING = "nothing"
    UNIFORM = "uniform"
    KERNEL_MIX = "kernel mix"
    CONTEXT = "context"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Timed:
    """A subnet's median on-CPU microseconds, the standard error of that median, and whether nothing disturbed it."""

    us: float
    error_us: float
    quiet: bool = True

    @classmethod
    def of(cls, measurement: Measurement) -> Timed:
        """From raw samples. Raises ValueError when there are none."""
        if not measurement.ok:
            raise ValueError(f"{measurement.label} has no timings")
        deviation = _MAD_TO_DEVIATION * measurement.cpu_mad_us
        error_us = _MEDIAN_ERROR * deviation / math.sqrt(len(measurement.cpu_us))
        return cls(measurement.cpu_median_us, error_us, measurement.verdict is Verdict.OK)


@dataclass(frozen=True, slots=True)
class Drift:
    """The verdict. scale: now / then, by which old times are multiplied when the shift is uniform, else 1; ratios: of
    each subnet; reason: in words.
    """

    shift: Shift
    scale: float
    ratios: Mapping[Config, float]
    reason: str


def find_drift(baseline: Mapping[Config, Timed], now: Mapping[Config, Timed]) -> Drift:
    """Compare what was measured in both. Fewer than 2 common subnets leave it unknown."""
    common = [config for config in baseline if config in now and baseline[config].us > 0 and now[config].us > 0]
    ratios = {config: now[config].us / baseline[config].us for config in common}
    if len(common) < LEAST:
        return Drift(Shift.UNKNOWN, 1.0, ratios, f"{len(common)} subnets were measured both times, {LEAST} are needed")
    scale = math.exp(statistics.median(map(math.log, ratios.values())))
    apart = [config for config in common if _beyond(ratios[config] / scale, baseline[config], now[config])]
    if apart:
        low, high = min(ratios.values()), max(ratios.values())
        return Drift(
            Shift.KERNEL_MIX, 1.0, ratios, f"subnets take {low:.2f} to {high:.2f} times as long as before: measure anew"
        )
    moved = [config for config in common if _beyond(ratios[config], baseline[config], now[config])]
    if len(moved) * 2 > len(common):
        return Drift(
            Shift.UNIFORM, scale, ratios, f"all {len(common)} subnets take {scale:.2f} times as long as before: rescale"
        )
    return Drift(Shift.NOTHING, 1.0, ratios, f"{len(common)} subnets take as long as before")


def context_change(then: Context, now: Context) -> Drift | None:
    """A verdict when the circumstances themselves are others, which no rescaling can repair; None when they are not."""
    if then == now:
        return None
    parts = {"runtime": "runtime", "runtime_version": "runtime version", "threads": "threads", "system": "system"}
    changes = [
        f"{words} was {getattr(then, field)}, is {getattr(now, field)}"
        for field, words in parts.items()
        if getattr(then, field) != getattr(now, field)
    ]
    return Drift(Shift.CONTEXT, 1.0, {}, "; ".join(changes) or "another device")


def sentinels(times_us: Mapping[Config, float], count: int = 3) -> Sequence[Config]:
    """Which of the measured subnets to measure again: spread over their times, fastest and slowest included."""
    ordered = sorted(times_us, key=lambda config: (times_us[config], config.key))
    if len(ordered) <= count:
        return ordered
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def _beyond(ratio: float, then: Timed, now: Timed) -> bool:
    """Whether a ratio differs from 1 by more than the tolerance and by more than the noise of both medians."""
    noise = math.hypot(then.error_us / then.us, now.error_us / now.us)
    tolerance = TOLERANCE if then.quiet and now.quiet else DISTURBED_TOLERANCE
    return abs(math.log(ratio)) > max(math.log1p(tolerance), _NORMAL_99 * noise)
