"""`devices srcc` on a store that devices were measured into."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tailorbird.cli.main import main
from tailorbird.db import MeasurementKey, default_store
from tailorbird.profile.history import subnet_subject
from tailorbird.types import Config, Measurement, Verdict

NET = "0123456789abcdef" * 4
ORDER = [float(n) for n in range(1, 16)]


def key(
    device: str, number: int, *, model: str = NET, mode: str = "quick", threads: int = 1, context: str = "kernel=6"
):
    subject = subnet_subject(model, Config.of({"a": number}))
    return MeasurementKey(device, "litert", "2.3", "subnet", subject, mode, threads, context)


def put(device: str, values, verdict: Verdict = Verdict.OK, **fields) -> None:
    with default_store() as store:
        store.measurements.add_all(
            (key(device, number, **fields), Measurement("s", (value,), (value,), verdict))
            for number, value in enumerate(values)
        )


def run(capsys, *arguments: str) -> dict:
    assert main(["devices", "srcc", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def pairs(document: dict) -> dict:
    return {(pair["proxy"], pair["target"]): pair for pair in document["pairs"]}


def test_it_says_which_proxy_serves_which_target_and_what_is_not_known(capsys):
    put("pi", ORDER)
    put("phone", [v**2 for v in ORDER])
    put("odd", [v * (1 if n % 2 else 4) for n, v in enumerate(ORDER)])
    put("new", ORDER[:4])
    found = run(capsys)
    assert pairs(found)["pi", "phone"]["srcc"] == pytest.approx(1.0)
    assert pairs(found)["pi", "odd"]["srcc"] < 0.9
    served = {row["target"]: row for row in found["served"]}
    assert (served["phone"]["proxy"], served["pi"]["proxy"]) == ("pi", "phone")
    assert (served["odd"]["proxy"], served["odd"]["best"]) == (None, "phone")
    assert served["new"]["srcc"] is None
    assert len(served["new"]["unknown"]) == 3
    assert "4 common subnets" in served["new"]["unknown"][0]


def test_the_newest_of_several_measurements_of_a_subnet_counts_whatever_its_protocol(capsys):
    put("a", reversed(ORDER), mode="quick")
    put("a", ORDER, mode="standard")
    put("b", ORDER)
    found = run(capsys)
    assert pairs(found)["a", "b"]["srcc"] == pytest.approx(1.0)
    assert pairs(found)["a", "b"]["common"] == len(ORDER)


def test_two_contexts_of_a_device_are_never_mixed(capsys):
    put("a", ORDER)
    put("a", reversed(ORDER), context="kernel=7")
    put("a", ORDER, threads=2)
    found = run(capsys)
    assert [c["name"] for c in found["contexts"]] == ["a x1 kernel=6", "a x1 kernel=7", "a x2 kernel=6"]
    assert pairs(found)["a x1 kernel=6", "a x1 kernel=7"]["srcc"] == pytest.approx(-1.0)


def test_throttled_times_are_left_out_and_counted(capsys):
    put("a", ORDER)
    put("b", ORDER)
    put("b", reversed(ORDER), Verdict.THROTTLED, mode="hot")
    found = run(capsys)
    assert found["throttled"] == len(ORDER)
    assert pairs(found)["a", "b"]["srcc"] == pytest.approx(1.0)


def test_times_that_are_none_are_left_out_and_no_device_was_hot_for_it(capsys):
    put("a", ORDER)
    put("b", [math.nan, 0.0, *ORDER[2:]])
    found = run(capsys)
    assert found["throttled"] == 0
    assert pairs(found)["a", "b"]["common"] == len(ORDER) - 2
    assert pairs(found)["a", "b"]["srcc"] == pytest.approx(1.0)


def test_a_device_that_takes_as_long_for_everything_serves_nobody_and_the_reason_is_told(capsys):
    put("a", ORDER)
    put("flat", [7.0] * len(ORDER))
    found = run(capsys)
    assert pairs(found)["a", "flat"]["srcc"] is None
    served = {row["target"]: row for row in found["served"]}
    assert served["a"]["proxy"] is None
    assert served["a"]["unknown"] == ["flat: all common subnets take the same time"]


def test_one_device_alone_has_no_proxy(capsys):
    put("alone", ORDER)
    assert main(["devices", "srcc"]) == 0
    assert "no other device was measured" in " ".join(capsys.readouterr().out.split())


def test_the_supernet_with_most_measurements_is_shown_unless_another_is_named(capsys):
    put("a", ORDER)
    put("b", ORDER)
    put("c", ORDER, model="fedc" * 16)
    assert [c["name"] for c in run(capsys)["contexts"]] == ["a", "b"]
    named = run(capsys, "fedc")
    assert [c["name"] for c in named["contexts"]] == ["c"]
    assert named["served"] == [
        {"target": "c", "proxy": None, "srcc": None, "best": None, "unknown": ["no other device was measured"]}
    ]
    assert main(["devices", "srcc", "77"]) == 2
    assert "names no measured SuperNet" in capsys.readouterr().err


def test_a_store_without_measurements_says_what_to_do(capsys):
    assert main(["devices", "srcc"]) == 2
    err = capsys.readouterr().err
    assert "no subnet was measured yet" in err
    assert "tailorbird search" in err


def test_the_plot_is_a_picture_of_the_matrix(capsys, tmp_path: Path):
    put("pi", ORDER)
    put("phone <3", [v**2 for v in ORDER])
    put("new", ORDER[:4])
    assert run(capsys, "--plot", str(tmp_path / "m.svg"))["plot"] == str(tmp_path / "m.svg")
    svg = "{http://www.w3.org/2000/svg}"
    root = ET.parse(tmp_path / "m.svg").getroot()
    texts = [node.text for node in root.iter(f"{svg}text")]
    assert texts.count("1.00") == 2
    assert texts.count("?") == 4
    assert any("phone <3" in (text or "") for text in texts)
    assert len([node for node in root.iter(f"{svg}rect") if node.get("class") == "serves"]) == 2 + 1  # and the key's


@pytest.mark.parametrize(("name", "words"), [("m.png", "no SVG file"), ("none/m.svg", "cannot be written")])
def test_a_plot_that_cannot_be_drawn_is_refused(capsys, tmp_path: Path, name: str, words: str):
    put("a", ORDER)
    assert main(["devices", "srcc", "--plot", str(tmp_path / name)]) == 2
    assert words in capsys.readouterr().err
