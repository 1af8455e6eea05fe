"""`tailorbird devices srcc`: which device can stand for which in a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.cli.table import Table
from tailorbird.errors import UsageError
from tailorbird.types import Context
from tailorbird.types.context import short_names

if TYPE_CHECKING:  # scipy takes half a second to import
    from tailorbird.predict.monotonicity import Monotonicity, RankAgreement
    from tailorbird.profile.history import SubnetHistory


@dataclass(frozen=True, slots=True)
class MeasuredContext:
    """A row of the matrix: its name there, what it is, and how many subnets were measured in it."""

    name: str
    context: Context
    subnets: int


@dataclass(frozen=True, slots=True)
class ServedTarget:
    """The proxy whose Pareto set serves a target, or None; unknown: proxies of which nothing is known, and why."""

    target: str
    proxy: str | None
    srcc: float | None
    best: str | None
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SrccResult:
    """Result of `devices srcc`. Pairs are given once for each direction; threshold: SRCC from which a proxy serves."""

    network: str
    contexts: tuple[MeasuredContext, ...]
    pairs: tuple[RankAgreement, ...]
    served: tuple[ServedTarget, ...]
    threshold: float
    min_common: int
    throttled: int
    plot: str | None
    schema: str = "tailorbird.srcc/1"


def srcc(
    network: Annotated[
        str | None,
        typer.Argument(
            help="A folder of `supernet`, `train` or `search`, or the first digits of a SuperNet's key; by default the "
            "one most was measured of."
        ),
    ] = None,
    *,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw the matrix.")] = None,
    min_common: Annotated[
        int | None, typer.Option("--min-common", min=3, help="Fewer common subnets tell nothing [default: 10].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far devices order subnets alike, and which of them can stand for which in a search.

    From what was measured so far; nothing is measured. `tailorbird search --proxy` measures what is missing.
    """
    from tailorbird.predict.monotonicity import MIN_COMMON, SERVES, monotonicity
    from tailorbird.profile.history import subnet_histories

    screen = Screen(as_json=as_json)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(f"{plot} is no SVG file", why="the matrix is drawn as SVG", fix="name it FILE.svg")
    with screen.workspace() as workspace:
        histories = subnet_histories(workspace.store)
    chosen = _choose(histories, network)
    names = short_names(chosen.times)
    least = min_common or MIN_COMMON
    found = monotonicity({name: chosen.times[context] for context, name in names.items()}, min_common=least)
    if plot is not None:
        _draw(plot, chosen, found)
    result = SrccResult(
        network=chosen.model,
        contexts=tuple(MeasuredContext(name, c, len(chosen.times[c])) for c, name in names.items()),
        pairs=tuple(found.pairs.values()),
        served=tuple(_served(found, name) for name in found.names),
        threshold=SERVES,
        min_common=least,
        throttled=chosen.throttled,
        plot=None if plot is None else str(plot),
    )
    notes = [f"{c.name}: {c.context.words}; {c.subnets} subnets" for c in result.contexts]
    if chosen.throttled:
        notes.append(f"{chosen.throttled} measurements of throttled devices are left out")
    if len(histories) > 1 and network is None:
        others = ", ".join(history.model[:12] for history in histories[1:])
        notes.append(f"of the SuperNet {chosen.model[:12]}; others: {others}")
    screen.show(result, [matrix_table(chosen, found), served_table(result)], notes)


def matrix_table(chosen: SubnetHistory, found: Monotonicity) -> Table:
    """Targets down, proxies across; the common subnets in brackets."""
    rows = tuple(
        (target, *("" if proxy == target else _pair_words(found[proxy, target]) for proxy in found.names))
        for target in found.names
    )
    return Table(f"SRCC of {chosen.model[:12]} (common subnets)", ("target \\ proxy", *found.names), rows)


def served_table(result: SrccResult) -> Table:
    """Which proxy serves each target, and what is not known."""
    rows = tuple(
        (s.target, s.proxy or "none known", "-" if s.srcc is None else f"{s.srcc:.3f}", "; ".join(s.unknown) or "-")
        for s in result.served
    )
    return Table(
        f"a search on which proxy serves it (SRCC >= {result.threshold:g})",
        ("target", "proxy", "best SRCC", "not known"),
        rows,
        words=("proxy", "not known"),
    )


def _choose(histories: Sequence[SubnetHistory], wanted: str | None) -> SubnetHistory:
    if not histories:
        raise UsageError(
            "no subnet was measured yet",
            why="the matrix is made of measurements in the store",
            fix="run `tailorbird search` on two devices, or `tailorbird search --proxy`",
            reason="NOT_MEASURED",
        )
    if wanted is None:
        return histories[0]
    key = _key_of(wanted)
    matching = [history for history in histories if history.model.startswith(key)]
    if len(matching) == 1:
        return matching[0]
    known = ", ".join(history.model[:12] for history in histories)
    raise UsageError(
        f"{wanted} names {len(matching) or 'no'} measured SuperNet{'s' if len(matching) > 1 else ''}",
        why=f"measured ones: {known}",
        fix="give more digits of its key" if matching else "measure it first: `tailorbird search`",
        reason="NOT_MEASURED",
    )


def _key_of(wanted: str) -> str:
    """The identity under which the network of a folder is measured."""
    folder = Path(wanted)
    if not folder.is_dir():
        return wanted
    from tailorbird.flow.identity import latency_identity
    from tailorbird.flow.network import open_network

    return latency_identity(open_network(folder).net)


def _served(found: Monotonicity, target: str) -> ServedTarget:
    best = found.best(target)
    unknown = tuple(f"{pair.proxy}: {pair.unknown}" for pair in found.of(target) if pair.unknown)
    if best is None:
        return ServedTarget(target, None, None, None, unknown or ("no other device was measured",))
    return ServedTarget(target, best.proxy if best.serves else None, best.srcc, best.proxy, unknown)


def _pair_words(pair: RankAgreement) -> str:
    value = "?" if pair.srcc is None else f"{pair.srcc:.3f}"
    return f"{value} ({pair.common})"


def _draw(path: Path, chosen: SubnetHistory, found: Monotonicity) -> None:
    from tailorbird.ui.heatmap import Cell, heatmap

    def cell(proxy: str, target: str) -> Cell:
        if proxy == target:
            return Cell(None, len(found.names), serves=False, words="")
        pair = found[proxy, target]
        words = pair.unknown or f"{pair.srcc:.3f} ({pair.low:.2f} to {pair.high:.2f}), {pair.common} common subnets"
        return Cell(pair.srcc, pair.common, pair.serves, f"{proxy} for {target}: {words}")

    try:
        path.write_text(heatmap(f"Latency monotonicity, {chosen.model[:12]}", found.names, cell), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written", why=error.strerror or str(error), fix="choose another") from error
