"""`tailorbird devices drift`: does a device still take as long as when it was measured?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tailorbird.cli.screen import DeviceOption, JsonOption, Screen
from tailorbird.cli.table import Table
from tailorbird.units import time_words

if TYPE_CHECKING:
    from tailorbird.flow.drift import RungDrift


@dataclass(frozen=True, slots=True)
class DriftResult:
    """Result of `devices drift`. shift: nothing, uniform, kernel mix, context or unknown; scale: now over then."""

    device: str
    shift: str
    scale: float
    reason: str
    rungs: tuple[RungDrift, ...]
    schema: str = "tailorbird.drift/1"


def drift(
    ladder: Annotated[Path, typer.Argument(help="Artifact folder of `search`.")],
    *,
    device: DeviceOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Measure the rungs of a ladder again, and compare each with its own baseline."""
    from tailorbird.flow.drift import ladder_drift
    from tailorbird.flow.network import open_network
    from tailorbird.flow.search import open_search

    screen = Screen(as_json=as_json)
    with screen.workspace() as workspace, screen.busy(f"Measuring the rungs on {device}") as progress:
        searched = open_search(open_network(ladder))
        with workspace.device(device) as board:
            found, rungs = ladder_drift(workspace, searched, board, note=progress.note)
            result = DriftResult(board.name, found.shift.value, found.scale, found.reason, rungs)
    rows = tuple(
        (
            rung.rung,
            "-" if rung.baseline_us is None else time_words(rung.baseline_us),
            "-" if rung.ratio is None else f"x{rung.ratio:.2f}",
        )
        for rung in rungs
    )
    table = Table(f"{result.device}: {result.shift}", ("rung", "baseline", "now"), rows)
    screen.show(result, [table], [result.reason])
