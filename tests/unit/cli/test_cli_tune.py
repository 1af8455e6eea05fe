"""`tailorbird tune`: history, export and import, and what is said when a file or a disk is at fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailorbird.cli.main import main
from tailorbird.db import Store
from tailorbird.types.schedule import DeviceClass, ScheduleRecord, Workload

ZEN = DeviceClass("x86_64-linux-gnu", "znver4", 1)
CONV = Workload("0x1", "0xa", "f32 SSR i0,i2 window= stride=", (1, 8, 16), 2e6, "fused_conv", "{}", "apache-tvm 0.1")
TRIAL = ScheduleRecord("t", "0x1", "conv", (1, 8), 0, "[]", "[[1],[]]", 50.0, compiler="apache-tvm 0.1", run_us=(50.0,))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAILORBIRD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TAILORBIRD_DATABASE", raising=False)
    return tmp_path / "home"


@pytest.fixture
def filled(home: Path) -> Path:
    with Store(home / "state.db") as store:
        store.schedules.put_workloads([CONV])
        store.schedules.of_class(ZEN, "board").add(TRIAL)
    return home


def answer(capsys, *arguments: str, code: int = 0) -> dict:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_history_lists_kernels_with_their_speed(filled: Path, capsys):
    found = answer(capsys, "tune", "--history")
    assert found["schema"] == "tailorbird.tune-history/1"
    (kernel,) = found["kernels"]
    assert (kernel["name"], kernel["device_class"], kernel["best_us"]) == ("fused_conv", "znver4-t1", 50.0)
    assert kernel["gflops"] == pytest.approx(40.0)
    assert answer(capsys, "tune", "--history", "--class", "other")["kernels"] == []
    assert main(["tune", "--history"]) == 0
    table = capsys.readouterr()
    assert "fused_conv\t1x8x16\t" in table.out
    assert "1 trials of 1 kernels" in table.err


def test_an_empty_store_says_so(home: Path, capsys):
    assert main(["tune", "--history"]) == 0
    assert "no schedules" in capsys.readouterr().err


def test_schedules_travel_to_another_host(filled: Path, tmp_path: Path, monkeypatch, capsys):
    file = tmp_path / "schedules.jsonl"
    assert answer(capsys, "tune", "--export", str(file))["trials"] == 1
    monkeypatch.setenv("TAILORBIRD_HOME", str(tmp_path / "elsewhere"))
    assert main(["tune", "--import", str(file)]) == 0
    words = capsys.readouterr().err
    assert "1 trials of 1 kernels added" in words
    assert "made by apache-tvm 0.1" in words
    again = answer(capsys, "tune", "--import", str(file))
    assert (again["read"], again["added"], again["compilers"]) == (1, 0, ["apache-tvm 0.1"])
    assert answer(capsys, "tune", "--history")["trials"] == 1


def test_a_damaged_line_is_named_and_the_rest_is_kept(filled: Path, tmp_path: Path, capsys):
    file = tmp_path / "schedules.jsonl"
    main(["tune", "--export", str(file)])
    file.write_text(file.read_text() + "{half a li\n")
    assert main(["tune", "--import", str(file)]) == 1
    assert f"{file}:4 left out: not JSON" in capsys.readouterr().err
    (damage,) = answer(capsys, "tune", "--import", str(file), code=1)["damaged"]
    assert damage["line"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "needs one of"),
        (("--history", "--export", "x"), 2, "needs one of"),
        (("--import", "nothing-here.jsonl"), 2, "there is no file"),
        (("--import", "x", "--class", "y"), 2, "--class does not go"),
        (("--export", "/nonexistent/x.jsonl"), 1, "cannot write"),
        (("--export", "/tmp/x.jsonl", "--class", "y"), 2, "no schedules of 'y'"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(home: Path, capsys, arguments, code, words):
    error = answer(capsys, "tune", *arguments, code=code)["error"]
    assert words in error["what"]
