"""`tailorbird tune` on real agents: what it finds the next run begins with, and each fault has one clear message."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailorbird.cache import StageResult
from tailorbird.cli.main import main
from tailorbird.device import Device, Devices, LocalAgent
from tailorbird.document import dump_document
from tailorbird.flow.inputs import InputSpec
from tailorbird.flow.network import build_supernet
from tailorbird.flow.search import LadderDocument, SearchDocument
from tailorbird.flow.source import Source
from tailorbird.flow.workspace import Workspace
from tailorbird.types import Ladder, Rung

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are compiled for x86_64"),
]
MODEL = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1), nn.Flatten(), nn.Linear(512, 4)
    )
"""
SEARCH = SearchDocument("board", 0, 0, 0, None, None, 0.0, 0, (), (), 0.0, 0.0, 0.0)
Start = Callable[..., LocalAgent]


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """The artifact folder of a search that found the largest and the smallest subnet."""
    source = tmp_path / "model.py"
    source.write_text(MODEL)
    with Workspace.open() as workspace:
        network = build_supernet(workspace, Source.parse(f"{source}:make"), [InputSpec((1, 4, 8, 8))])
        space = network.net.space
        rungs = tuple(
            Rung(
                f"r{index}",
                config,
                0.5 + 0.1 * index,
                100.0,
                None,
                network.net.macs(config),
                network.net.params(config),
            )
            for index, config in enumerate((space.smallest(), space.full()))
        )

        def build(folder: Path) -> None:
            network.write(folder)
            (folder / "search.json").write_text(dump_document(SEARCH))
            (folder / "ladder.json").write_text(dump_document(LadderDocument(Ladder("net", "board", rungs, None))))

        result: StageResult = workspace.cache.run("search", {"test": True}, build)
    return result.folder


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts agents and makes them known: start("board", classes=("c",), llvm_cpu=...)."""
    started: list[LocalAgent] = []

    def run(name: str, classes: tuple[str, ...] = (), **card: object) -> LocalAgent:
        with monkeypatch.context() as patch:
            if card:
                python = tmp_path / f"python-{name}"
                script = Path(__file__).with_name("another_board.py")
                words = [sys.executable, str(script), json.dumps(card)]
                python.write_text(f'#!/bin/sh\nshift 2\nexec {shlex.join(words)} "$@"\n')
                python.chmod(0o755)
                patch.setattr(sys, "executable", str(python))
            started.append(LocalAgent.start(tmp_path / name, name=name))
        with Workspace.open() as workspace:
            Devices(workspace.store).add(name, str(started[-1].control), classes)
        return started[-1]

    yield run
    for agent in started:
        agent.stop()


def tune(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    assert main(["tune", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def blobs_of(agent: LocalAgent) -> list[Path]:
    return [path for path in agent.control.parent.rglob("*") if path.is_file() and "blobs" in path.parts]


@pytest.mark.slow
def test_what_one_device_measured_is_what_the_next_run_and_a_new_release_begin_with(
    start, ladder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    start("board", ("boards",))
    start("twin", ("boards",))
    first = tune(capsys, str(ladder), "--device", "class:boards", "--trials", "12", "--budget", "3m")
    assert first["schema"] == "tailorbird.tune/1"
    assert sorted(first["devices"]) == ["board", "twin"]
    assert 12 <= first["trials"] == sum(kernel["trials"] for kernel in first["kernels"])
    assert first["total_us"] < first["untuned_us"]
    assert json.loads((Path(first["artifact"]) / "tuning.json").read_text())["kernels"] == first["kernels"]
    again = tune(capsys, str(ladder), "--device", "board", "--trials", "1")
    assert again["total_us"] <= first["total_us"]
    assert "exact" in {kernel["source"] for kernel in again["kernels"]}

    exported = tmp_path / "schedules.jsonl"
    assert main(["tune", "--export", str(exported)]) == 0
    exported.write_text(exported.read_text().replace("apache-tvm 0.27.0.post1", "apache-tvm 0.1"))
    address = (ladder, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TAILORBIRD_HOME", address[1])
    assert main(["tune", "--import", str(exported)]) == 0
    assert "each is measured once more" in capsys.readouterr().err
    assert main(["devices", "add", "board", str(tmp_path / "board")]) == 0
    capsys.readouterr()
    confirmed = tune(capsys, str(ladder), "--device", "board", "--trials", "4")
    assert "exact" in {kernel["source"] for kernel in confirmed["kernels"]}


@pytest.mark.slow
def test_a_second_host_waits_and_says_who_holds_the_device(start, ladder: Path, tmp_path: Path, capsys) -> None:
    start("board")
    ended = []
    with Device.connect(tmp_path / "board") as device:
        lease = device.lease("the other host", 60.0)
        run = threading.Thread(
            target=lambda: ended.append(main(["tune", str(ladder), "--device", "board", "--trials", "2"]))
        )
        run.start()
        said = ""
        while "the other host holds it" not in said:
            run.join(0.2)
            assert run.is_alive(), said
            said += capsys.readouterr().err
        lease.release()
        run.join()
    assert ended == [0]


@pytest.mark.slow
def test_when_all_candidates_fail_it_ends_with_their_reasons(
    start, ladder: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    start("board")
    compiler = tmp_path / "bin" / "cc"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho no library > "$2"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    error = tune(capsys, str(ladder), "--device", "board", "--trials", "4", code=1)["error"]
    assert error["reason"] == "TUNING_FAILED"
    assert "none of" in error["what"]
    assert "crash, such as" in error["why"]


@pytest.mark.slow
def test_a_device_whose_disk_is_full_says_so(start, ladder: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TAILORBIRD_AGENT_QUOTA_BYTES", "1000000")
    start("board")
    error = tune(capsys, str(ladder), "--device", "board", "--trials", "4", code=1)["error"]
    assert error["reason"] in {"QUOTA_EXCEEDED", "DISK_FULL", "STORAGE_FULL"}


@pytest.mark.parametrize(
    ("card", "reason", "words"),
    [
        ({"llvm_cpu": "znver99"}, "COMPILE_FAILED", "znver99"),
        ({"llvm_cpu": "x86-64-v3", "isa_features": ["sse4_1", "sse4_2", "popcnt"]}, "INCOMPATIBLE_FEATURES", "avx2"),
    ],
    ids=["a CPU that LLVM does not know", "a CPU without what the code needs"],
)
def test_what_cannot_run_there_is_refused_before_anything_is_sent(
    start, ladder: Path, capsys, card, reason: str, words: str
) -> None:
    agent = start("odd", **card)
    error = tune(capsys, str(ladder), "--device", "odd", code=1)["error"]
    assert error["reason"] == reason
    assert words in error["what"] + error["why"]
    assert blobs_of(agent) == []


def test_bad_words_on_the_command_line_are_usage_errors(ladder: Path, capsys) -> None:
    assert tune(capsys, str(ladder), "--device", "class:none", code=2)["error"]["reason"] == "DEVICE_CLASS_UNKNOWN"
    assert tune(capsys, str(ladder), "--device", "nobody", code=1)["error"]["reason"] == "DEVICE_UNKNOWN"
    assert "one of LADDER" in tune(capsys, str(ladder), "--history", code=2)["error"]["what"]
    assert "go with LADDER" in tune(capsys, "--history", "--trials", "3", code=2)["error"]["what"]
