"""The table of lines of code: python -m tests.bench.loc [--json FILE] [--ofa FOLDER]."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.loc.count import PUBLISHED, ours, recount_ofa
from tests.bench.outcome import Outcome, publish


def main() -> None:
    """Print the table on stderr and the object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the object here as well as to stdout")
    parser.add_argument("--ofa", type=Path, help="unpacked wheel of `pip download --no-deps ofa`, to count it again")
    options = parser.parse_args()
    own = ours()
    outcome = Outcome("tailorbird.bench.loc/1", "full")
    outcome.target("one line", "one line of the user's code makes a SuperNet of any network")
    outcome.judge("one line", met=own.construction == 1)
    outcome.rows = [{**asdict(cost), "ratio": cost.construction / own.construction} for cost in (*PUBLISHED, own)]
    if options.ofa is not None:
        outcome.figures["ofa_counted_again"] = recount_ofa(options.ofa)
    sys.stderr.write(_table(outcome.rows))
    publish(outcome, options.json)


def _table(rows: list[dict[str, object]]) -> str:
    shown = Table("system", "network", "construction", "to ours", "hand-written library", "end to end", "included")
    for row in rows:
        shown.add_row(
            str(row["system"]),
            str(row["network"]),
            str(row["construction"]),
            f"{row['ratio']:.0f}x",
            str(row["shared"] or "-"),
            f"{'' if row['system'] == 'Tailorbird' else 'at least '}{row['end_to_end']}",
            str(row["included"]),
        )
    console = Console(width=150, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


if __name__ == "__main__":
    main()
