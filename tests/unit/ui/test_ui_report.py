"""report.html: valid, self-contained, complete, and safe against what the document says."""

import dataclasses
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from sample_run import LANES, sample_run

from tailorbird.ui import render_report

_VOID = {"meta", "br", "hr", "img", "input", "link"}


class Checker(HTMLParser):
    """Balanced tags, no unknown nesting, collected text and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.errors: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.errors.append(f"unexpected </{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in {"script", "style"}:
            self.text += data


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    return checker


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(sample_run())


def test_tags_are_balanced_and_ids_are_unique(page):
    checker = parsed(page)
    assert checker.errors == []
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.search(r"https?://|//cdn|@import|url\(", page.replace("http://www.w3.org", ""))
    for _, name, value in parsed(page).attributes:
        assert name not in {"src", "href", "srcset", "action"}, (name, value)


def test_every_chart_is_well_formed_and_within_its_frame(page):
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2 * (1 + len(LANES) + 2)  # rung strip, lanes, front, prediction; wide and narrow
    for drawing in drawings:
        tree = ET.fromstring(drawing)
        width, height = (float(v) for v in tree.get("viewBox").split()[2:])
        for circle in tree.iter("circle"):
            if circle.get("cx"):
                assert 0 <= float(circle.get("cx")) <= width
                assert 0 <= float(circle.get("cy")) <= height


def test_each_chart_can_be_reached_and_walked_with_the_keyboard(page):
    svgs = [{n: v for t, n, v in parsed(d).attributes if t == "svg"} for d in re.findall(r"<svg.*?>", page)]
    assert all(svg["tabindex"] == "0" and svg["aria-label"] for svg in svgs)
    marks = [json.loads(text) for text in re.findall(r'</svg><script type="application/json">(.*?)</script>', page)]
    assert all(entry and [m[0] for m in entry] == sorted(m[0] for m in entry) for entry in marks)


def test_words_of_the_document_are_escaped(page):
    assert "<script>alert" not in page
    assert "A <script>alert(1)</script> title" in parsed(page).text
    assert 'P(on time) .71 -> .98 </script> "quoted"' in parsed(page).text


def test_absent_sensors_are_unavailable_and_present_ones_have_units(page):
    assert re.search(r"<dt>temperature</dt><dd>unavailable</dd>", page)
    assert re.search(r"<dt>frequency</dt><dd>2.60 GHz</dd>", page)


def test_both_themes_are_in_the_style_sheet_and_can_be_chosen(page):
    assert "light-dark(" in page
    assert '[data-theme="dark"]' in page
    assert 'id="theme"' in page


def test_the_embedded_document_is_the_run(page):
    data = json.loads(re.search(r'<script type="application/json" id="run">(.*?)</script>', page, re.DOTALL)[1])
    assert data["schema"] == "tailorbird.run/1"
    assert data["serving"]["lanes"][0]["lane"] == "two-channel"


def test_a_run_without_serving_or_rungs_still_renders():
    bare = dataclasses.replace(
        sample_run(serving=False), rungs=(), front=(), predictions=(), card=None, sensors=None, stages=()
    )
    checker = parsed(render_report(bare))
    assert checker.errors == []
    assert "Serving while" not in checker.text


def test_a_percentile_that_too_few_requests_support_is_a_dash(page):
    assert re.search(r"<td>900 us</td><td>-</td>", page)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_parses(page, tmp_path):
    script = tmp_path / "report.js"
    script.write_text(re.findall(r"<script>\n(.*?)</script>", page, re.DOTALL)[0])
    assert subprocess.run(["node", "--check", str(script)], capture_output=True).returncode == 0
