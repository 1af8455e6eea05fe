"""The stage cache."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.cache import StageCache, code_version
from tailorbird.db import Store


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "cache", version="1")


def writes(text: str):
    def build(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "out.txt").write_text(text)

    return build


def forbidden(folder: Path) -> None:
    raise AssertionError(f"{folder} was built although it is cached")


def test_the_second_run_is_a_hit(cache: StageCache):
    first = cache.run("search", {"seed": 1}, writes("a"))
    second = cache.run("search", {"seed": 1}, forbidden)
    assert (first.hit, second.hit) == (False, True)
    assert second.folder == first.folder
    assert (second.folder / "sub" / "out.txt").read_text() == "a"
    assert second.seconds == first.seconds


@pytest.mark.parametrize(("stage", "inputs"), [("train", {"seed": 1}), ("search", {"seed": 2}), ("search", {})])
def test_another_stage_or_input_is_another_result(cache: StageCache, stage: str, inputs: dict):
    cache.run("search", {"seed": 1}, writes("a"))
    assert cache.find(stage, inputs) is None


def test_another_version_of_the_code_is_another_result(cache: StageCache, tmp_path: Path):
    cache.run("search", {}, writes("a"))
    assert StageCache(tmp_path / "cache", version="2").find("search", {}) is None


@pytest.mark.parametrize("damage", [b"b", b"", b"aa"])
def test_a_damaged_result_is_built_again(cache: StageCache, damage: bytes):
    folder = cache.run("search", {}, writes("a")).folder
    (folder / "sub" / "out.txt").write_bytes(damage)
    again = cache.run("search", {}, writes("a"))
    assert not again.hit
    assert (again.folder / "sub" / "out.txt").read_text() == "a"


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"files": {"gone": "00"}, "seconds": 1}'])
def test_a_result_without_a_sound_record_is_built_again(cache: StageCache, record: str):
    folder = cache.run("search", {}, writes("a")).folder
    (folder / "stage.json").write_text(record)
    assert not cache.run("search", {}, writes("a")).hit


def test_a_failed_build_leaves_nothing_behind(cache: StageCache, tmp_path: Path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError("no luck")

    with pytest.raises(RuntimeError, match="no luck"):
        cache.run("search", {}, fail)
    assert list((tmp_path / "cache" / "search").iterdir()) == []


def test_inputs_that_are_no_json_are_refused(cache: StageCache):
    with pytest.raises(TypeError):
        cache.run("search", {"x": object()}, writes("a"))


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans()), max_size=5))
def test_the_order_of_inputs_does_not_matter(inputs: dict):
    cache = StageCache(Path("unused"), version="1")
    assert cache.key("s", inputs) == cache.key("s", dict(reversed(inputs.items())))


def test_built_stages_are_listed_in_the_index(tmp_path: Path):
    with Store(tmp_path / "s.db") as store:
        cache = StageCache(tmp_path / "cache", index=store.stages, version="1")
        result = cache.run("search", {}, writes("a"))
        newest = store.stages.newest("search")
    assert newest is not None
    assert (newest.key, newest.folder) == (result.key, str(result.folder))


def test_the_code_version_is_a_digest_that_stays():
    assert len(code_version()) == 64
    assert code_version() == code_version()
