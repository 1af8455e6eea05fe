"""Run documents survive a round trip, and damaged ones are refused with the place of the damage."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_run import sample_run

from tailorbird.document import DocumentError, dump_document, parse_document
from tailorbird.errors import MissingFileError, UsageError
from tailorbird.ui import read_run, write_run
from tailorbird.ui.run import RUN_SCHEMA, Figure, Run, StageTime


def test_a_run_is_equal_after_writing_and_reading(tmp_path):
    run = sample_run()
    write_run(run, tmp_path / "run.json")
    assert read_run(tmp_path / "run.json") == run
    assert read_run(tmp_path) == run


def test_a_missing_run_says_where_it_looked(tmp_path):
    with pytest.raises(MissingFileError) as caught:
        read_run(tmp_path)
    assert "run.json" in caught.value.why
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("title"), "field 'title' is missing"),
        (lambda d: d.update(colour="red"), "unknown field 'colour'"),
        (lambda d: d["rungs"][1].update(macs="many"), "$.rungs[1].macs: expected int, found str"),
        (lambda d: d.update(schema="tailorbird.run/9"), "schema is 'tailorbird.run/9'"),
        (lambda d: d["card"].update(caches={}), "$.card.caches: expected a list"),
        (lambda d: d["card"].update(runtimes=[["tvm"]]), "$.card.runtimes[0]: expected 2 items, found 1"),
        (lambda d: d["stages"][0].update(cached=1), "$.stages[0].cached: expected bool, found int"),
    ],
)
def test_damage_is_named_by_its_path(tmp_path, change, words):
    data = json.loads(dump_document(sample_run()))
    change(data)
    (tmp_path / "run.json").write_text(json.dumps(data))
    with pytest.raises(UsageError) as caught:
        read_run(tmp_path)
    assert words in caught.value.why


def test_text_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("hello")
    with pytest.raises(UsageError, match="is not a run"):
        read_run(tmp_path)


def test_what_json_lacks_becomes_null():
    assert json.loads(dump_document(Figure("x", "y")))["name"] == "x"
    assert "null" in dump_document(StageTime("a", "b", math.inf, cached=False))


@given(
    st.builds(
        StageTime,
        name=st.text(),
        title=st.text(),
        seconds=st.floats(allow_nan=False, allow_infinity=False),
        cached=st.booleans(),
        figures=st.lists(st.builds(Figure, st.text(), st.text()), max_size=3).map(tuple),
    )
)
def test_any_stage_survives_the_round_trip(stage):
    run = sample_run(serving=False)
    document = Run(**{f: getattr(run, f) for f in run.__dataclass_fields__} | {"stages": (stage,)})
    assert parse_document(Run, dump_document(document), schema=RUN_SCHEMA).stages == (stage,)


def test_a_list_at_the_top_is_refused():
    with pytest.raises(DocumentError, match="schema is None"):
        parse_document(Run, "[]", schema=RUN_SCHEMA)
