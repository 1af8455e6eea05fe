"""`tailorbird report`: draw the page of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.screen import JsonOption, Screen
from tailorbird.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    run: Annotated[Path, typer.Argument(help="run.json, or the folder that holds it.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the page.")] = Path("report.html"),
    as_json: JsonOption = False,
) -> None:
    """Draw the report of a run as one self-contained HTML file."""
    from tailorbird.ui import read_run, render_report

    page = render_report(read_run(run))
    try:
        output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}", why=str(error), fix="give another file with -o") from error
    size = output.stat().st_size
    document = {"schema": "tailorbird.report/1", "report": str(output.absolute()), "bytes": size}
    Screen(as_json=as_json).show(document, notes=[f"{output} ({size / 1024:.0f} KiB)"])
