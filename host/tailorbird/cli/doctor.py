"""`tailorbird doctor`: what is wrong with this installation, and the line that mends it."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from tailorbird.cli.checks import Check, check_all
from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.cli.table import Table


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Result of `doctor`."""

    ok: bool
    checks: tuple[Check, ...]
    schema: str = "tailorbird.doctor/1"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(*, as_json: JsonOption = False) -> None:
    """Check imports, pins, the compiler and the agents; print a fix for each failure. Exit 1 when one fails."""
    screen = Screen(as_json=as_json)
    checks: list[Check] = []
    with screen.busy("Checking") as progress:
        for check in check_all():
            progress.note(check.name)
            checks.append(check)
        bad = [check for check in checks if not check.ok]
        progress.note(f"{len(checks) - len(bad)} of {len(checks)} ok")
    table = Table(
        "",
        ("check", "verdict", "found"),
        tuple((check.name, "ok" if check.ok else "FAILED", check.found) for check in checks),
        words=("verdict", "found"),
    )
    notes = [f"fix {check.name}: {check.fix}" for check in bad]
    screen.show(Diagnosis(not bad, tuple(checks)), [table], notes)
    if bad:
        raise typer.Exit(1)
