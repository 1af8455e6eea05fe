"""A latency model of a device from proxy devices: measure the device a few times, and know when that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.device import Device, Lease
from tailorbird.errors import DeviceError, UsageError
from tailorbird.flow.subnets import SubnetTimer
from tailorbird.predict import FeatureMap, Sample
from tailorbird.predict.drift import Drift, Shift, Timed, find_drift, sentinels
from tailorbird.predict.fewshot import FIRST, MOST, TransferredLatency
from tailorbird.predict.monotonicity import RankAgreement, agreement
from tailorbird.predict.proxy import choose_samples
from tailorbird.predict.proxy_table import ProxyTable
from tailorbird.profile import KernelsOf, KernelTable
from tailorbird.types import Config, Context, Measurement
from tailorbird.types.context import short_names

#: Subnets measured on each proxy. Half of them suffice for an order; the rest teach what is common to devices.
PROXY_SUBNETS = 60
#: Rows of proxies that are used at most: a fit takes the cube of it.
_MOST_ROWS = 600
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """What was found of a device.

    agreements: with each proxy, over what was measured on both; measured: subnets newly measured on the device;
    drift: how the device has changed since its earlier measurements, None where there were none.
    """

    model: TransferredLatency
    agreements: tuple[RankAgreement, ...]
    measured: int
    drift: Drift | None


def transfer_latency(
    timer: SubnetTimer,
    kernels_of: KernelsOf,
    device: Device,
    proxies: Sequence[Device],
    *,
    tables: Mapping[str, KernelTable] | None = None,
    least: int = 0,
    most: int = MOST,
    proxy_subnets: int | None = None,
    seed: int = 0,
) -> Transfer:
    """Measure the proxies, then a few subnets of the device until the stop rule is met.

    tables: kernel tables of proxies, which become features; least and most: samples of the device, counting those that
    are stored of its present context. Earlier contexts of the device (another kernel, another power mode) are one more
    proxy each. Stored times are first compared with times of now: when all moved by one factor they are rescaled, when
    not, they are measured anew.

    Raises:
        UsageError: a proxy is the device itself.
        DeviceError: a device cannot time subnets, or none of them runs on it.
        DeviceUnreachableError: a device went away; what was measured is kept, and the same call goes on from there.
    """
    own = timer.context(device)
    for proxy in proxies:
        if timer.context(proxy) == own:
            raise UsageError(
                f"{proxy.name} cannot be its own proxy",
                why="proxy and target have the same name, runtime and system",
                fix="name another device; two agents on one machine need names of their own (tailorbird-agent run "
                "--name)",
                reason="SAME_DEVICE",
            )
    pool = pool_of(timer, proxy_subnets or PROXY_SUBNETS, seed)
    known: dict[str, Mapping[Config, float]] = {proxy.name: timer.times_us(proxy, pool) for proxy in proxies}
    if empty := [name for name, times in known.items() if not times]:
        raise DeviceError(f"no subnet runs on {', '.join(empty)}", fix="see what fails: tailorbird bench, doctor")
    known |= _earlier(timer, own)
    rows = tuple(dict.fromkeys(config for times in known.values() for config in times))[:_MOST_ROWS]
    features = FeatureMap(timer.net, kernels_of, tables)
    columns = {name: np.array([times.get(row, np.nan) / 1e3 for row in rows]) for name, times in known.items()}
    table = ProxyTable.of(features(rows), {n: column for n, column in columns.items() if np.isfinite(column).any()})
    sampler = _Sampler(timer, device, rows, table, np.random.default_rng(seed))
    drift: Drift | None = None
    if most == 0:
        model = TransferredLatency(features, rows, table, ())
    else:
        with device.lease() as lease:
            stored, drift = _stored(timer, device, lease)
            sampler.refresh = drift is not None and drift.shift is Shift.KERNEL_MIX
            model = sampler.until_settled(TransferredLatency(features, rows, table, stored), lease, least, most)
    mine = {sample.config: sample.cpu_us for sample in model.samples}
    agreements = tuple(agreement(proxy.name, known[proxy.name], device.name, mine) for proxy in proxies)
    return Transfer(model, agreements, sampler.measured, drift)


def pool_of(timer: SubnetTimer, count: int, seed: int = 0) -> tuple[Config, ...]:
    """The subnets that every device is asked for: the full, the smallest, and random ones, the same everywhere."""
    space = timer.net.space
    found = dict.fromkeys([space.full(), space.smallest()])
    for number in range(20 * count):
        if len(found) >= count:
            break
        found[space.sample(20_000 + seed + number)] = None
    return tuple(found)


@dataclass(slots=True)
class _Sampler:
    """Chooses and measures subnets of the device; those that do not run there are not asked for twice."""

    timer: SubnetTimer
    device: Device
    rows: tuple[Config, ...]
    table: ProxyTable
    rng: np.random.Generator
    refresh: bool = False
    measured: int = 0

    def until_settled(self, model: TransferredLatency, lease: Lease, least: int, most: int) -> TransferredLatency:
        """Follow the stop rule."""
        asked: set[Config] = set()
        while len(model.samples) < most and (len(model.samples) < least or not model.settled):
            taken = {sample.config for sample in model.samples} | asked
            wanted = self._choose(taken, min(FIRST, most - len(model.samples)))
            if not wanted:
                break
            asked |= set(wanted)
            found = self.timer.times_us(self.device, wanted, lease=lease, refresh=self.refresh)
            self.measured += len(found)
            if found:
                model = model.with_samples(Sample(config, us) for config, us in found.items())
        if not model.samples:
            raise DeviceError(
                f"no subnet runs on {self.device.name}",
                why=f"{len(asked)} were tried",
                fix="see what fails: tailorbird bench, doctor",
                reason="NOT_MEASURED",
            )
        return model

    def _choose(self, taken: set[Config], count: int) -> list[Config]:
        """The most telling rows that were not asked for yet."""
        columns = dict(zip(self.table.names, self.table.latency_ms.T, strict=True))
        wider = min(len(self.rows), len(taken) + count)
        order = choose_samples(self.table.features, columns, wider, self.rng)
        return [row for row in (self.rows[int(index)] for index in order) if row not in taken][:count]


def _earlier(timer: SubnetTimer, own: Context) -> dict[str, Mapping[Config, float]]:
    """Times of the device in other contexts than its present one."""
    found = {c: times for c, times in timer.contexts().items() if c.device == own.device and c != own}
    names = short_names([own, *found])
    return {names[context]: times for context, times in found.items()}


def _stored(timer: SubnetTimer, device: Device, lease: Lease) -> tuple[list[Sample], Drift | None]:
    """Samples of the device's present context from earlier runs, corrected by what the device does now."""
    known = timer.known(device)
    if not known:
        return [], None
    watched = sentinels(known)
    drift = confirmed_drift(timer, device, watched, lease)
    timer.note(f"{device.name}: {drift.reason}")
    if drift.shift is Shift.KERNEL_MIX:
        fresh = timer.times_us(device, watched, lease=lease, refresh=True)
        return [Sample(config, us) for config, us in fresh.items()], drift
    if drift.shift is Shift.UNIFORM:
        timer.rescale(device, known, drift.scale)
    return [Sample(config, us * drift.scale) for config, us in known.items()], drift


def confirmed_drift(timer: SubnetTimer, device: Device, watched: Sequence[Config], lease: Lease) -> Drift:
    """How subnets that were measured in this context compare with now. Raises DeviceError, LeaseError."""
    then = _timed(timer.measure(device, watched, lease=lease))
    rounds = [_timed(timer.measure_again(device, watched, lease=lease))]
    drift = find_drift(then, rounds[0])
    if drift.shift is Shift.NOTHING:
        return drift
    # One look may have met a passing disturbance: the middle of three counts.
    rounds += [_timed(timer.measure_again(device, watched, lease=lease)) for _ in range(_ROUNDS - 1)]
    return find_drift(then, _middle(rounds))


def _timed(found: Mapping[Config, Measurement]) -> dict[Config, Timed]:
    return {config: Timed.of(measurement) for config, measurement in found.items() if measurement.ok}


def _middle(rounds: Sequence[Mapping[Config, Timed]]) -> dict[Config, Timed]:
    """Of each subnet the median over the rounds that have it."""
    configs = dict.fromkeys(config for found in rounds for config in found)
    by_time = {c: sorted((found[c] for found in rounds if c in found), key=lambda timed: timed.us) for c in configs}
    return {config: found[len(found) // 2] for config, found in by_time.items()}
