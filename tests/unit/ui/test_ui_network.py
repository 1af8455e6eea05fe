"""The page of a graph: self-contained, complete, safe against names, and drawn where a browser is at hand."""

from __future__ import annotations

import dataclasses
import html
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from zoo.small_models import ResidualNet, randomised

from tailorbird.supernet import Report, elastic
from tailorbird.supernet.atlas import Atlas, draw
from tailorbird.ui.network import colours, render_network


class Reader(HTMLParser):
    """Text, ids and attributes; whether tags balance."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.ids: list[str] = []
        self.names: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names += [name for name, _ in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in {"meta", "input", "wbr", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data


@pytest.fixture(scope="module")
def found() -> tuple[Report, Atlas]:
    torch.set_num_threads(1)
    net = elastic(randomised(ResidualNet()), (torch.randn(1, 3, 16, 16),))
    return net.report, draw(net.graph, net.report.dimensions)


@pytest.fixture(scope="module")
def page(found: tuple[Report, Atlas]) -> str:
    return render_network(*found)


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    reader = Reader(page)
    assert reader.unbalanced == []
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert not {"src", "href", "srcset", "action"} & set(reader.names)
    assert not re.search(r"https?://|//cdn|@import|url\(", page)


def test_the_page_holds_every_operator_and_every_group(found: tuple[Report, Atlas], page: str) -> None:
    report, atlas = found
    data = json.loads(re.search(r'id="atlas">(.*?)</script>', page, re.DOTALL)[1])
    assert [o["name"] for o in data["operators"]] == [o.name for o in atlas.operators]
    assert [c["path"] for c in data["calls"]] == [c.path for c in atlas.calls]
    text = Reader(page).text
    for index, dimension in enumerate(report.dimensions):
        assert dimension.name in text
        assert f'data-d="{index}"' in page
        assert f"--d{index}:" in page
    assert "an output of the network" in text
    assert f"{report.subnets:,}" in text


def test_names_are_escaped(found: tuple[Report, Atlas]) -> None:
    report, atlas = found
    evil = "<script>alert('x')</script>"
    first = dataclasses.replace(report.dimensions[0], name=evil)
    operator = dataclasses.replace(atlas.operators[0], name=evil, module=f"</script>{evil}")
    page = render_network(
        dataclasses.replace(report, model=evil, dimensions=(first, *report.dimensions[1:])),
        dataclasses.replace(atlas, operators=(operator, *atlas.operators[1:])),
    )
    assert "<script>alert" not in page
    assert html.unescape(re.sub(r"<wbr>", "", page)).count(evil) >= 2


def test_neighbouring_groups_differ_in_colour() -> None:
    hues = [float(hue) for hue in re.findall(r"oklch\(\S+ \S+ (\d+)\), ", colours(60))]
    assert len(hues) == 60
    assert all(min(abs(a - b), 360 - abs(a - b)) > 60 for a, b in itertools.pairwise(hues))


def test_a_network_where_nothing_can_shrink_has_a_page_too() -> None:
    net = elastic(torch.nn.Linear(3, 4), (torch.randn(1, 3),))
    page = render_network(net.report, draw(net.graph, net.report.dimensions))
    assert Reader(page).unbalanced == []
    assert "an output of the network" in page


BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_every_operator_when_all_is_open(
    found: tuple[Report, Atlas], page: str, tmp_path: Path
) -> None:
    report, atlas = found
    path = tmp_path / "graph.html"
    path.write_text(page, encoding="utf-8")
    for level, expected in ((9, len(atlas.operators)), (-1, sum(o.call < 0 for o in atlas.operators))):
        done = subprocess.run(
            [
                *(str(BROWSER), "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000", "--dump-dom"),
                f"file://{path}#level={level}&group={report.dimensions[0].name}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        drawing = re.search(r"<svg.*?</svg>", done.stdout, re.DOTALL)[0]
        classes = re.findall(r'<g [^>]*class="([^"]*)"', drawing)
        assert sum("operator" in name.split() for name in classes) == expected
        assert any("on" in name.split() for name in classes), "the group in the link is lit"
        assert "NaN" not in drawing
