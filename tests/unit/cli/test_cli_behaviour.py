"""The command line as a user meets it: exit codes, JSON, and messages that say what, why and how to fix it."""

import json
import subprocess
import sys

import pytest

from tailorbird.cli.main import main

COMMANDS = (
    "bench",
    "compile",
    "demo",
    "deploy",
    "devices",
    "doctor",
    "record",
    "report",
    "rollback",
    "run",
    "search",
    "simulate",
    "supernet",
    "train",
    "tune",
    "why",
)
MODEL = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))

def number():
    return 7

def broken():
    raise RuntimeError("no weights today")

constant = 3
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def failure(capsys, *arguments):
    """Exit code and the error object of a command that fails under --json."""
    code = main([*arguments, "--json"])
    out = capsys.readouterr().out
    document = json.loads(out)
    assert document["schema"] == "tailorbird.error/1"
    assert set(document["error"]) == {"what", "why", "fix", "reason"}
    return code, document["error"]


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    words = capsys.readouterr().out
    assert all(f"\n  {name} " in words for name in COMMANDS)


@pytest.mark.parametrize(
    "command",
    [*COMMANDS, "devices ls", "devices add", "devices show", "devices forget", "devices srcc", "devices drift"],
)
def test_every_command_explains_itself_and_knows_json(capsys, command):
    assert main([*command.split(), "--help"]) == 0
    words = capsys.readouterr().out
    assert "--json" in words
    assert len(words.splitlines()) > 5


def test_no_command_prints_help(capsys):
    assert main([]) == 0
    assert "Usage: tailorbird" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command"),
        (["supernet"], "Missing"),
        (["bench", "--colour"], "No such option"),
        (["search", "x", "--rungs", "99"], "--rungs"),
    ],
)
def test_a_wrong_command_line_is_usage(capsys, arguments, words):
    code, error = failure(capsys, *arguments)
    assert code == 2
    assert words in error["what"]
    assert "--help" in error["fix"]


def test_errors_name_what_why_and_fix_on_stderr(capsys):
    assert main(["report", "nowhere"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error no run at nowhere" in captured.err
    assert "  why " in captured.err
    assert "  fix " in captured.err


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("absent", "has no 'absent'", "broken, make"),
        ("constant", "is not callable", "int"),
        ("number", "returned a int", "torch.nn.Module"),
        ("broken", "failed", "RuntimeError: no weights today (line 11 of model.py)"),
    ],
)
def test_a_bad_model_name_says_what_is_wrong_with_it(capsys, model, name, what, why):
    code, error = failure(capsys, "supernet", f"{model}:{name}", "--input", "1,3,8,8")
    assert code == 2
    assert what in error["what"]
    assert why in error["why"]


@pytest.mark.parametrize(
    ("source", "shape", "what"),
    [
        ("model.py", "1,3,8,8", "names no callable"),
        ("nowhere.py:make", "1,3,8,8", "there is no file nowhere.py"),
        ("no.such.module:make", "1,3,8,8", "cannot be imported"),
        ("{model}:make", "1,3,8", "does not run"),
        ("{model}:make", "1,2,8,8", "does not run"),
        ("{model}:make", "1;3", "is not a shape"),
        ("{model}:make", "1,0,8,8", "is not a shape"),
    ],
)
def test_a_bad_source_or_input_is_usage_with_a_reason(capsys, model, source, shape, what):
    code, error = failure(capsys, "supernet", source.format(model=model), "--input", shape)
    assert code == 2
    assert what in error["what"]
    assert error["fix"]


def test_a_file_with_a_syntax_error_is_named(capsys, tmp_path):
    (tmp_path / "bad.py").write_text("def make(:\n")
    code, error = failure(capsys, "supernet", f"{tmp_path}/bad.py:make", "--input", "1,3,8,8")
    assert code == 2
    assert "SyntaxError" in error["why"]


def test_a_model_that_cannot_be_exported_is_refused(capsys, tmp_path):
    (tmp_path / "wild.py").write_text(
        "from torch import nn\n"
        "class Wild(nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x if x.sum().item() > 0 else -x\n"
        "make = Wild\n"
    )
    code, error = failure(capsys, "supernet", f"{tmp_path}/wild.py:make", "--input", "1,3,8,8")
    assert code == 2
    assert error["reason"] == "MODEL_NOT_ELASTIC"


def test_supernet_leaves_an_artifact_and_the_second_run_is_a_cache_hit(capsys, model):
    documents = []
    for _ in range(2):
        assert main(["supernet", f"{model}:make", "--input", "1,3,8,8", "--json"]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    first, second = documents
    assert first["schema"] == "tailorbird.supernet/1"
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["artifact"] == second["artifact"]
    assert {d["name"] for d in first["elastic"]} == {"0"}
    assert first["pinned"][0]["reason"]


def test_a_changed_model_is_another_artifact(capsys, model):
    folders = []
    for text in (MODEL, MODEL.replace("16", "24")):
        model.write_text(text)
        assert main(["supernet", f"{model}:make", "--input", "1,3,8,8", "--json"]) == 0
        folders.append(json.loads(capsys.readouterr().out)["artifact"])
    assert folders[0] != folders[1]


def test_a_source_that_changed_after_its_artifact_is_refused(capsys, model, tmp_path):
    assert main(["supernet", f"{model}:make", "--input", "1,3,8,8", "--json"]) == 0
    artifact = json.loads(capsys.readouterr().out)["artifact"]
    model.write_text(MODEL + "\n# changed\n")
    code, error = failure(capsys, "train", artifact, "--data", f"{model}:number", "--budget", "1s")
    assert code == 2
    assert "returned a int" in error["what"] or "changed since" in error["what"]


def test_supernet_prints_plain_text_in_a_pipe(capsys, model):
    assert main(["supernet", f"{model}:make", "--input", "1,3,8,8"]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[0] == "Sequential: input_1 float32 (N, 3, 8, 8)"
    assert "0 out-channels, 16: 8 16  saves 50 %  with in-features of 4" in lines
    assert "an output of the network (output): 4 out-features, 4" in lines
    assert "artifact: " in captured.err


def test_supernet_takes_named_inputs_and_options(capsys, tmp_path):
    (tmp_path / "pair.py").write_text(
        "from torch import nn\n"
        "class Pair(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.embed, self.up, self.head = nn.Embedding(99, 32), nn.Linear(32, 64), nn.Linear(64, 3)\n"
        "    def forward(self, ids, mask):\n"
        "        return self.head(self.up(self.embed(ids)).relu() * mask[:, :, None])\n"
    )
    inputs = ["--input", "mask=1,7", "--input", "ids=1,7:int64[0..98]"]
    found = []
    for options in ([], ["--freeze", "em*"], ["--only", "up"], ["--only", "up", "--choices", "up=32"]):
        assert main(["supernet", f"{tmp_path}/pair.py:Pair", *inputs, *options, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["inputs"] == ["ids int64 (N, 7)", "mask float32 (N, 7)"]
    assert [{d["name"] for d in f["elastic"]} for f in found] == [{"embed", "up"}, {"up"}, {"up"}, {"up"}]
    assert found[3]["elastic"][0]["choices"] == [32, 64]
    assert len({f["artifact"] for f in found}) == 4
    code, error = failure(capsys, "supernet", f"{tmp_path}/pair.py:Pair", *inputs, "--choices", "up=many")
    assert (code, "names no choices" in error["what"]) == (2, True)


def test_supernet_draws_a_page_also_from_the_cache(capsys, model, tmp_path):
    pages = []
    for name in ("first.html", "second.html"):
        assert main(["supernet", f"{model}:make", "--input", "1,3,8,8", "--html", str(tmp_path / name), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["html"] == str(tmp_path / name)
        pages.append((tmp_path / name).read_text())
    assert document["cached"]
    assert pages[0] == pages[1]
    assert "out-channels" in pages[0]
    where = str(tmp_path / "no" / "such" / "folder.html")
    code, error = failure(capsys, "supernet", f"{model}:make", "--input", "1,3,8,8", "--html", where)
    assert (code, "--html" in error["fix"]) == (2, True)


def test_piped_tables_are_tab_separated(capsys):
    assert main(["devices", "ls"]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("name\t")
    assert second.startswith("local\t")


def test_devices_can_be_added_listed_and_forgotten(capsys, tmp_path):
    assert main(["devices", "add", "board-1", str(tmp_path), "--json"]) == 0
    names = [d["name"] for d in json.loads(capsys.readouterr().out)["devices"]]
    assert names == ["local", "board-1"]
    assert main(["devices", "forget", "board-1", "--json"]) == 0
    assert [d["name"] for d in json.loads(capsys.readouterr().out)["devices"]] == ["local"]


def test_an_unreachable_device_exits_4(capsys, tmp_path):
    main(["devices", "add", "board-1", str(tmp_path)])
    capsys.readouterr()
    code, error = failure(capsys, "devices", "show", "board-1")
    assert code == 4
    assert error["reason"] == "DEVICE_UNREACHABLE"


def test_a_device_nobody_knows_is_named_with_those_that_are(capsys):
    code, error = failure(capsys, "why", "--device", "board-9")
    assert code == 1
    assert error["reason"] == "DEVICE_UNKNOWN"
    assert "local" in error["why"]


def test_an_unknown_demo_model_or_missing_data_is_usage(capsys, tmp_path):
    code, error = failure(capsys, "demo", "--model", "resnet152")
    assert (code, "digits or resnet20-cifar10" in error["fix"]) == (2, True)
    code, error = failure(capsys, "demo", "--model", "resnet20-cifar10", "--data", str(tmp_path))
    assert (code, error["reason"]) == (2, "FILE_NOT_FOUND")


def test_without_the_host_extra_a_hint_is_printed():
    probe = (
        "import sys\nsys.modules['typer'] = None\nfrom tailorbird.cli.main import main\nsys.exit(main(['devices']))\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'tailorbird[host]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_no_torch():
    probe = (
        "import sys; from tailorbird.cli.main import main; main(['--help']); "
        "print(sorted({'torch', 'tvm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip().endswith("[]")
