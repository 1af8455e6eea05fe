"""Cases of an earlier object of the accuracy benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.accuracy import earlier
from tests.bench.outcome import Outcome

SCHEMA = "tailorbird.bench.accuracy/1"


def outcome(**cases: Any) -> Outcome:
    made = Outcome(SCHEMA, "full")
    made.figures = {"cases": dict(cases), "settings": {name.split(",")[0]: {"seeds": 3} for name in cases}}
    made.rows = [
        {"net": name.split(", ")[0], "budget": name.split(", ")[1], "key": case["who"]} for name, case in cases.items()
    ]
    return made


def test_what_this_run_does_not_know_is_kept_and_what_it_knows_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "full.json"
    path.write_text(outcome(**{"a, 6 min": {"who": "old"}, "b, 6 min": {"who": "old"}}).to_json())
    now = outcome(**{"a, 6 min": {"who": "new"}})
    earlier.keep(now, path)
    assert {name: case["who"] for name, case in now.figures["cases"].items()} == {"a, 6 min": "new", "b, 6 min": "old"}
    assert set(now.figures["settings"]) == {"a", "b"}
    assert sorted((row["net"], row["key"]) for row in now.rows) == [("a", "new"), ("b", "old")]


@pytest.mark.parametrize("change", [{"suite": "quick"}, {"schema": "another"}])
def test_objects_of_another_kind_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "full.json"
    path.write_text(json.dumps(json.loads(outcome().to_json()) | change))
    with pytest.raises(ValueError, match="not 'tailorbird"):
        earlier.keep(outcome(), path)
