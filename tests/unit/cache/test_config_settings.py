"""Layered settings and units."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.config import load_settings, parse_bytes, parse_seconds, parse_us
from tailorbird.errors import MissingFileError, UsageError


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("25ms", 25_000),
        ("1.5s", 1.5e6),
        ("30m", 1.8e9),
        (" 2 h ", 7.2e9),
        ("7us", 7),
        ("3µs", 3),
        ("1e3 us", 1000),
        (".5MS", 500),
    ],
)
def test_durations_are_read_with_their_unit(text: str, us: float):
    assert parse_us(text) == pytest.approx(us)


@pytest.mark.parametrize(
    ("text", "size"),
    [("40MB", 40_000_000), ("40MiB", 40 << 20), ("512 kib", 512 << 10), ("1.5GB", 1_500_000_000), ("9b", 9)],
)
def test_sizes_are_read_with_their_unit(text: str, size: int):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["25", "", "ms", "-1ms", "1 fortnight", "1ms2", "nan ms", "0x10ms"])
def test_what_is_no_duration_is_refused_with_an_example(text: str):
    with pytest.raises(UsageError) as caught:
        parse_us(text)
    assert "25ms" in caught.value.fix


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_a_usage_error(text: str):
    try:
        assert parse_seconds(text) >= 0
    except UsageError as error:
        assert error.exit_code == 2


def test_later_layers_win_and_say_so(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text('device = "rpi4-1"\nthreads = 2\ntune_s = "2m"\nseed = 3\n')
    layered = load_settings(
        {"threads": 4, "seed": None}, environment={"TAILORBIRD_DEVICE": "jetson", "HOME": "/x"}, file=file
    )
    values, origins = layered.values, dict(layered.origins)
    assert (values.device, values.threads, values.tune_s, values.seed) == ("jetson", 4, 120.0, 3)
    assert values.policy == "two-channel"
    assert origins["device"] == "$TAILORBIRD_DEVICE"
    assert origins["threads"] == "flag"
    assert origins["seed"] == str(file)
    assert origins["policy"] == "default"


def test_the_store_lies_in_home_unless_a_database_is_named():
    assert load_settings(environment={"TAILORBIRD_HOME": "/h"}).values.database_location == "/h/state.db"
    url = "postgresql:///x"
    assert load_settings(environment={"TAILORBIRD_DATABASE": url}).values.database_location == url


def test_an_unknown_key_names_the_nearest_known_one(tmp_path: Path):
    (tmp_path / "c.toml").write_text("treads = 2\n")
    with pytest.raises(UsageError) as caught:
        load_settings(environment={}, file=tmp_path / "c.toml")
    assert caught.value.fix == "did you mean threads?"


@pytest.mark.parametrize("text", ["threads = 'many'", "threads = 1.5", "threads = true", "tune_s = '5'", "x = ["])
def test_a_bad_value_is_refused(tmp_path: Path, text: str):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError):
        load_settings(environment={}, file=tmp_path / "c.toml")


def test_a_named_file_must_be_there(tmp_path: Path):
    with pytest.raises(MissingFileError):
        load_settings(environment={"TAILORBIRD_CONFIG": str(tmp_path / "none.toml")})
