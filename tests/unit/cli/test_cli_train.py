"""`tailorbird train` as its user meets it: figures, options, cache, interruption, fine-tuned subnets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from tailorbird.cli.bar import RunBar
from tailorbird.cli.main import main
from tailorbird.document import dump_document
from tailorbird.flow.inputs import InputSpec
from tailorbird.flow.network import build_supernet, open_network
from tailorbird.flow.search import LadderDocument, SearchDocument, open_search
from tailorbird.flow.source import Source
from tailorbird.flow.subnet import load_subnet
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet import Options
from tailorbird.supernet.training import Progress
from tailorbird.types import Config, Ladder, Rung

FILES = """
import torch
from torch import nn
from tailorbird.supernet import Task

def make():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )

def images(count, seed):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=random)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    waves = torch.stack([row, column, row + column, row - column])[labels]
    return torch.sin(waves * 2.0 + torch.rand(count, 1, 1, generator=random) * 6.28)[:, None], labels

def data():
    parts = {"train": images(256, 1), "validation": images(64, 2), "test": images(64, 3)}
    return {f"{part}_{kind}": value for part, pair in parts.items() for kind, value in zip("xy", pair)}

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.up, self.head = nn.Embedding(9, 16), nn.Linear(16, 32), nn.Linear(32, 2)
    def forward(self, ids, mask):
        return self.head(self.up(self.embed(ids)).relu() * mask[..., None])

def pair():
    torch.manual_seed(0)
    return Pair()

def sentences():
    ids = torch.randint(0, 9, (32, 5), generator=torch.Generator().manual_seed(0))
    batches = [{"ids": x, "mask": torch.ones(8, 5), "labels": x % 2} for x in ids.split(8)]
    return {"train": batches[:3], "validation": batches[3:]}

def used_up():
    return {"train": iter(()), "validation": []}

def without_validation():
    return {"train": []}

def task():
    known = Task.of("classification")
    return Task("mine", known.loss, lambda output, labels: 0.25, known.distance)

def number():
    return 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("train")
    (made / "mine.py").write_text(FILES)
    return made


@pytest.fixture(scope="module")
def artifact(folder, tmp_path_factory) -> str:
    """A SuperNet, made once."""
    return supernet(tmp_path_factory.mktemp("makes"), f"{folder}/mine.py:make", "1,1,8,8")


def supernet(home: Path, source: str, *inputs: str) -> str:
    with Workspace.open({"home": home}) as workspace:
        specs = [InputSpec.parse(text) for text in inputs]
        made = build_supernet(workspace, Source.parse(source), specs, options=Options.of(divisor=4))
    return str(made.result.folder)


@pytest.fixture
def train(artifact, folder, capsys):
    """Run the command under --json: its document, or that of its error with the exit code."""

    def run(*arguments: str, artifact: str = artifact, data: str = "data", code: int = 0):
        assert main(["train", artifact, "--data", f"{folder}/mine.py:{data}", *arguments, "--json"]) == code
        captured = capsys.readouterr()
        document = json.loads(captured.out)
        return document["error"] if code else document

    return run


def test_a_run_tells_what_it_did_and_is_not_done_twice(train):
    first, second, other = (
        train("--steps", steps, "--batch", "32", "--max-drop", "100", *more)
        for steps, more in (("8", ()), ("8", ()), ("8", ("--random", "1", "--sampling", "independent")))
    )
    assert first["schema"] == "tailorbird.train/2"
    told = first["training"]
    assert told["schema"] == "tailorbird.training/2"
    assert (told["steps"], told["images"], told["unit"], told["stopped_by"]) == (8, 256, "images", "steps")
    assert told["rate"] > 0
    assert told["recipe"]["max_drop"] == 1.0
    for name in ("full_before", "full_after", "smallest_before", "smallest_after", "random_after"):
        assert 0 <= told[name] <= 1
    assert (first["cached"], second["cached"], other["cached"]) == (False, True, False)
    assert (first["artifact"], told) == (second["artifact"], second["training"])
    assert (other["training"]["recipe"]["n_random"], other["training"]["recipe"]["sampling"]) == (1, "independent")
    trained = open_network(Path(first["artifact"]))
    assert trained.document.data.endswith("mine.py:data")
    assert [config for config, _ in trained.net.recalibrated()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "3", "--epochs", "2"], "exclude each other"),
        (["--lr", "-1"], "lr is -1"),
        (["--steps", "0"], "--steps"),
        (["--budget", "5"], "'5' is no duration"),
        (["--task", "guessing"], "no task is called 'guessing'"),
        (["--task", "{folder}/mine.py:number"], "returned a int"),
        (["--teacher", "given"], "--teacher"),
        (["--ema", "2"], "ema is 2"),
        (["--max-drop", "200"], "--max-drop"),
        (["--resume"], "nothing"),
        (["--resume", "--checkpoint", "{folder}/absent.pt"], "no interrupted run"),
        (["--subnet", "r2"], "there is no subnet 'r2'"),
        (["--subnet", "{{"], "is no configuration"),
        (["--subnet", '{{"sizes": {{"nowhere": 8}}}}'], "nowhere"),
        (["--subnet", "{{}}"], "is the full network"),
        (["--subnet", '{{"sizes": {{"0": 8}}}}', "--random", "2"], "--random and --subnet exclude"),
    ],
)
def test_a_bad_option_is_named(train, folder, arguments, words):
    error = train(*(argument.format(folder=folder) for argument in arguments), code=2)
    assert words in error["what"] or (words == "nothing" and error["reason"] == "NOTHING_TO_RESUME")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("number", "returned a int"),
        ("used_up", "train of .* is a tuple_iterator"),
        ("without_validation", "lacks validation"),
    ],
)
def test_bad_data_are_named(train, data, words):
    import re

    assert re.search(words, train(data=data, code=2)["what"])


def test_help_lists_options_under_headings(capsys):
    assert main(["train", "--help"]) == 0
    words = capsys.readouterr().out
    assert words.index("Arguments:") < words.index("Options:") < words.index("\n  --resume") < words.index("Recipe:")
    assert words.index("Recipe:") < words.index("\n  --distillation")


def test_a_pipe_gets_one_line_for_each_check(artifact, folder, capsys):
    assert main(["train", artifact, "--data", f"{folder}/mine.py:data", "--steps", "8", "--max-drop", "100"]) == 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("step ")]
    assert [line.split(",")[0] for line in lines] == [f"step {step}" for step in range(1, 8)]
    assert all("full" in line and "smallest" in line and "images/s" in line and "left" in line for line in lines)
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == ["network", "full", "smallest", "random"]


def now(step: int, **more) -> Progress:
    return Progress(step, 100, step / 100, 0.5, 0.7, 0.01, 9.0, 1234.0, "tokens", 75.0, **more)


def test_a_terminal_gets_a_bar_and_notes_on_lines_of_their_own():
    shown = io.StringIO()
    with RunBar(Console(file=shown, force_terminal=True, width=160, color_system=None), "Training") as bar:
        bar.update(now(40, full=0.912, smallest=0.7, random=0.84, checked=True))
        bar.update(now(50, full=0.912, note="learning rate x 0.5"))
    words = shown.getvalue()
    assert "full 91.2 %" in words
    assert "1.23 k tokens/s, 1:15 left" in words
    assert "50%" in words
    assert "learning rate x 0.5\n" in words
    assert "step 40" not in words


def test_loaders_of_the_users_own_feed_networks_with_several_inputs(train, folder, private_home):
    tokens = supernet(private_home, f"{folder}/mine.py:pair", "ids=1,5:int64[0..8]", "mask=1,5")
    arguments = ("--steps", "3", "--max-drop", "100")
    document = train(*arguments, artifact=tokens, data="sentences")
    told = document["training"]
    assert (told["unit"], told["images"], told["recipe"]["steps"]) == ("tokens", 24, 3)
    assert train(*arguments, artifact=tokens, data="sentences")["cached"]
    assert "batches of their own" in train("--batch", "4", artifact=tokens, data="sentences", code=2)["what"]
    assert main(["search", document["artifact"], "--data", f"{folder}/mine.py:sentences", "--json"]) == 2


def test_a_task_of_the_users_own_is_trained_for(train, folder):
    told = train("--steps", "2", "--task", f"{folder}/mine.py:task")["training"]
    assert told["task"] == "mine"
    assert {told["full_before"], told["full_after"], told["smallest_after"]} == {0.25}


def test_an_interrupted_run_goes_on_with_resume(train, artifact, folder, private_home):
    command = [sys.executable, "-m", "tailorbird.cli.main", "train", artifact, "--data", f"{folder}/mine.py:data"]
    run = subprocess.Popen(
        [*command, "--steps", "100000"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        checkpoints = private_home / "host" / "checkpoints"
        while run.poll() is None and not list(checkpoints.glob("train-*.pt")):
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(0.05)  # the run needs the processor more than this loop does
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
    finally:
        run.kill()
    assert (run.returncode, out) == (130, "")
    assert "interrupted after step" in err
    assert "--resume" in err
    done = int(err.split("after step ")[1].split()[0])
    (left,) = checkpoints.glob("train-*.pt")
    assert train("--steps", str(done + 3), code=2)["reason"] == "RUN_INTERRUPTED"
    # The run was not done: nothing of it is in the cache, and it goes on under another plan.
    document = train("--steps", str(done + 3), "--resume", "--max-drop", "0.3")
    assert (document["cached"], document["training"]["resumed_at"]) == (False, done)
    assert document["training"]["steps"] == done + 3
    assert not left.exists()
    assert train("--steps", str(done + 3))["cached"]
    assert train("--steps", str(done + 4), "--resume", code=2)["reason"] == "NOTHING_TO_RESUME"


def test_a_fine_tuned_subnet_comes_as_a_file_and_in_its_network(train):
    config = Config.of({"0": 8, "3": 8})
    document = train("--subnet", config.to_json(), "--steps", "24", "--lr", "0.1")
    told = document["subnet"]
    assert document["schema"] == "tailorbird.train-subnet/1"
    assert (told["config"], told["rung"], told["steps"]) == (config.to_json(), "", 24)
    assert told["after"] >= told["before"]
    subnet = load_subnet(Path(document["artifact"]))
    weights = load_file(document["weights"])
    assert weights.keys() == subnet.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in subnet.state_dict().items())
    assert weights["0.weight"].shape[0] == 8
    # Trained: no longer a slice of the network it came from.
    network = open_network(Path(document["artifact"])).net
    shared = network.state_dict()["0.weight"]
    assert not any(torch.equal(weights["0.weight"][0], row) for row in shared)
    assert train("--subnet", config.to_json(), "--steps", "24", "--lr", "0.1")["cached"]


def test_a_rung_that_was_fine_tuned_takes_its_place_in_the_ladder(train, artifact, tmp_path):
    config, source = Config.of({"0": 8, "3": 8}), open_network(Path(artifact))
    rungs = (Rung("r0", config, 0.2, 10.0, None, 1, 1), Rung("r1", Config(), 0.9, 20.0, None, 2, 2))

    def build(made: Path) -> None:
        source.write(made)
        ladder = LadderDocument(Ladder(source.name, "board", rungs))
        (made / "ladder.json").write_text(dump_document(ladder))
        search = SearchDocument("board", 1, 1, 0, None, None, 0.01, 2, (), (), 1.0, 1.0, 1.0)
        (made / "search.json").write_text(dump_document(search))

    with Workspace.open() as workspace:
        searched = workspace.cache.run("search", {}, build).folder
    document = train("--subnet", "r0", "--steps", "24", "--lr", "0.1", artifact=str(searched))
    assert document["subnet"]["rung"] == "r0"
    found = open_search(open_network(Path(document["artifact"])))
    assert [rung.accuracy for rung in found.ladder.rungs] == [document["subnet"]["after"], 0.9]
    tuned = load_file(document["weights"])
    own = found.network.net.extract(found.ladder.rungs[0].config).state_dict()
    assert all(torch.equal(value, tuned[name]) for name, value in own.items())
    assert "is the full network" in train("--subnet", "r1", artifact=str(searched), code=2)["what"]
    shutil.rmtree(searched)
