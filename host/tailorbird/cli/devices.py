"""`tailorbird devices`: the boards this user knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.drift import drift
from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.cli.srcc import srcc
from tailorbird.cli.table import Table
from tailorbird.types import Deployment, DeviceCard, Sensors
from tailorbird.ui.facts import UNAVAILABLE, card_facts, sensor_facts
from tailorbird.units import significant, time_words

if TYPE_CHECKING:  # the data base takes a while to import
    from tailorbird.db import FigureRecord


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A name in the registry; cpu is what its card said when it was last seen."""

    name: str
    address: str
    machine: str
    cpu: str
    cores: int | None
    last_seen: str | None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceList:
    """Result of `devices ls`, `add` and `forget`."""

    devices: tuple[KnownDevice, ...]
    schema: str = "tailorbird.devices/1"


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """Who measures on the device until when (ISO 8601)."""

    holder: str
    fencing_token: int
    expires: str


@dataclass(frozen=True, slots=True)
class CardFigure:
    """A figure of `bench` as it was last measured. stale: the device has another kernel or power mode since then."""

    name: str
    threads: int
    value: float
    unit: str
    runtime: str
    verdict: str
    measured: str
    context: str
    stale: bool


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Result of `devices show`."""

    address: str
    uptime_s: float
    card: DeviceCard
    sensors: Sensors
    deployments: tuple[Deployment, ...]
    lease: LeaseHolder | None
    sandbox: tuple[str, ...]
    context: str
    figures: tuple[CardFigure, ...]
    ridge_flop_per_byte: float | None
    schema: str = "tailorbird.device/1"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(help="The boards you own: list, add, show, forget, compare.", rich_markup_mode=None)
    group.callback(invoke_without_command=True)(_default)
    group.command("ls")(list_devices)
    group.command("add")(add)
    group.command("show")(show)
    group.command("forget")(forget)
    group.command("srcc")(srcc)
    group.command("drift")(drift)
    app.add_typer(group, name="devices")


def _default(context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the known devices (same as `devices ls`)."""
    if context.invoked_subcommand is None:
        list_devices(as_json=as_json)


def list_devices(*, as_json: JsonOption = False) -> None:
    """List the known devices. `local`, this machine, is always one of them."""
    _show_list(Screen(as_json=as_json))


def add(
    name: Annotated[str, typer.Argument(help="Name of your choice, e.g. rpi4-1.")],
    address: Annotated[str, typer.Argument(help="Folder with the agent's sockets, or unix:/dir/control.sock.")],
    *,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="A class it belongs to, for `--device class:NAME`; repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Remember a device under a name."""
    from tailorbird.device import Devices

    Devices().add(name, address, tuple(classes or ()))
    _show_list(Screen(as_json=as_json))


def forget(name: Annotated[str, typer.Argument(help="A known name.")], *, as_json: JsonOption = False) -> None:
    """Forget a device; its agent is left alone."""
    from tailorbird.device import Devices

    Devices().forget(name)
    _show_list(Screen(as_json=as_json))


def show(name: Annotated[str, typer.Argument(help="A known name.")] = "local", *, as_json: JsonOption = False) -> None:
    """Show a device's card, its measured figures, its sensors now, what is deployed and who measures on it."""
    screen = Screen(as_json=as_json)
    with screen.workspace() as workspace, workspace.device(name) as device:
        status = device.status()
        address, context = str(device.address), device.context
        figures = tuple(
            _card_figure(record, context) for record in workspace.store.measurements.figure_records(device.name)
        )
    lease = status.lease and LeaseHolder(
        status.lease.holder, status.lease.fencing_token, status.lease.expires.isoformat(timespec="seconds")
    )
    state = DeviceState(
        address,
        status.uptime_s,
        status.card,
        status.sensors,
        status.deployments,
        lease or None,
        status.sandbox,
        context,
        figures,
        _ridge(figures),
    )
    tables = [
        Table(
            f"{name} at {address}",
            ("property", "value"),
            (
                *card_facts(status.card),
                ("power mode", status.power_mode or UNAVAILABLE),
                ("sandbox", ", ".join(status.sandbox) or "none"),
                *(() if state.ridge_flop_per_byte is None else (("ridge", _ridge_words(state.ridge_flop_per_byte)),)),
            ),
            words=("value",),
        ),
        *([_figure_table(figures)] if figures else []),
        Table("sensors", ("sensor", "value"), sensor_facts(status.sensors), words=("value",)),
    ]
    if status.deployments:
        tables.append(deployment_table(status.deployments))
    notes = [f"leased by {lease.holder} until {lease.expires}"] if lease else []
    screen.show(state, tables, notes)


def _card_figure(record: FigureRecord, context: str) -> CardFigure:
    measurement = record.figure.measurement
    return CardFigure(
        record.figure.name,
        record.threads,
        record.figure.value,
        record.figure.unit,
        measurement.noted("runtime") or "",
        measurement.verdict.value,
        record.measured.isoformat(timespec="seconds"),
        record.context,
        record.context != context,
    )


def _ridge(figures: tuple[CardFigure, ...]) -> float | None:
    """FLOP per byte where a float32 kernel of one thread becomes bound by arithmetic; None when not known now."""
    values = {figure.name: figure.value for figure in figures if figure.threads == 1 and not figure.stale}
    if "gemm-fp32" not in values or not values.get("stream-triad"):
        return None
    return values["gemm-fp32"] / values["stream-triad"]


def _ridge_words(ridge: float) -> str:
    return f"{significant(ridge)} FLOP/byte with one thread"


def _figure_table(figures: tuple[CardFigure, ...]) -> Table:
    return Table(
        "figures",
        ("figure", "threads", "value", "unit", "verdict", "measured", "by", "holds"),
        tuple(
            (
                f.name,
                str(f.threads),
                significant(f.value),
                f.unit,
                f.verdict,
                f.measured,
                f.runtime,
                f"no longer: it was {f.context or 'not told'}" if f.stale else "yes",
            )
            for f in figures
        ),
        words=("unit", "verdict", "measured", "by", "holds"),
    )


def deployment_table(deployments: tuple[Deployment, ...]) -> Table:
    """What a device serves."""
    return Table(
        "deployments",
        ("model", "state", "bundle", "rung", "policy", "SLO", "requests", "late", "switches"),
        tuple(
            (
                d.model,
                d.state.value,
                (d.active or "-")[:12],
                d.current_rung or "-",
                d.policy or "-",
                "-" if d.slo_us is None else time_words(d.slo_us),
                str(d.requests),
                str(d.misses),
                str(d.switches),
            )
            for d in deployments
        ),
        words=("state", "bundle", "rung", "policy"),
    )


def _show_list(screen: Screen) -> None:
    from tailorbird.device import Devices
    from tailorbird.device.registry import LOCAL

    records = {record.name: record for record in Devices().list()}
    known = []
    for name in (LOCAL, *(n for n in records if n != LOCAL)):
        record = records.get(name)
        card = record.card if record else None
        seen = record.last_seen.isoformat(timespec="seconds") if record and record.last_seen else None
        address = record.address if record else "started on first use"
        known.append(
            KnownDevice(
                name,
                address,
                card.machine if card else "",
                card.cpu_model if card else "",
                card.cores if card else None,
                seen,
                record.tags if record else (),
            )
        )
    table = Table(
        "",
        ("name", "class", "address", "machine", "cpu", "cores", "last seen"),
        tuple(
            (
                d.name,
                ", ".join(d.classes) or "-",
                d.address,
                d.machine or "-",
                d.cpu or "-",
                str(d.cores or "-"),
                d.last_seen or "never",
            )
            for d in known
        ),
        words=("class", "address", "machine", "cpu", "last seen"),
    )
    screen.show(DeviceList(tuple(known)), [table])
