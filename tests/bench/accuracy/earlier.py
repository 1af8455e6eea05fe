"""Cases of an earlier object: the full suite takes most of a day, and may be run case by case, on whatever is free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench.outcome import Outcome

Found = dict[str, Any]


def keep(outcome: Outcome, path: Path) -> None:
    """Take over cases that this run knows nothing of, rows and settings with them; each says where it was measured.

    Raises: ValueError for an object of another schema or suite.
    """
    data = json.loads(path.read_text())
    if (data.get("schema"), data.get("suite")) != (outcome.schema, outcome.suite):
        raise ValueError(f"{path} is {data.get('schema')!r} of the {data.get('suite')} suite, not {outcome.schema!r}")
    figures = outcome.figures
    taken = {name: case for name, case in data["figures"]["cases"].items() if name not in figures["cases"]}
    figures["cases"] |= taken
    for net, settings in data["figures"]["settings"].items():
        figures["settings"].setdefault(net, settings)
    rows: list[Found] = data.get("rows", [])
    outcome.rows += [row for row in rows if f"{row['net']}, {row['budget']}" in taken]
