"""The report speaks the user's language, fits on a page, and survives JSON."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.small_models import ResidualNet, TextEncoder, randomised, token_ids

from tailorbird.errors import UsageError
from tailorbird.supernet import Report, elastic
from tailorbird.supernet.page import page, subnet_words
from tailorbird.supernet.runs import find_runs


@pytest.fixture(scope="module")
def report() -> Report:
    torch.set_num_threads(1)
    return elastic(randomised(ResidualNet()), (torch.randn(1, 3, 16, 16),)).report


def lines(report: Report, *, everything: bool = False) -> list[str]:
    return [" ".join(line.split()) for line in report.render(everything=everything).splitlines()]


def test_each_group_is_told_in_the_users_own_words(report: Report) -> None:
    text = lines(report)
    assert text[0] == "ResidualNet: x float32 (N, 3, 16, 16)"
    assert "layer1.{0..1}.conv1 out-channels, 16 each: 8 16 saves 5.4 % with .bn1, in-channels of .conv2" in text
    assert "layer2.0.conv1 out-channels, 32: 8 16 24 32 saves 24 % with .bn1, in-channels of .conv2" in text
    assert "stem.0 out-channels, 16: 8 16 saves 17 % with .1, in-channels of layer1.0.conv1, 7 more" in text
    assert "layer1.0 .. layer1.1 saves 11 % each" in text
    assert "an output of the network (output): fc out-features, 10" in text
    assert text[-1].startswith("an input of the network")


def test_figures_of_both_extremes_come_first(report: Report) -> None:
    text = lines(report)
    assert text[1].startswith(f"{report.subnets:,} subnets; 100.0 % of the parameters can shrink; built in ")
    assert text[3] == "subnet parameters MACs peak activations"
    assert text[4].startswith("full 43.2 k")
    assert 0 < report.peak_bytes_smallest < report.peak_bytes_full


def test_everything_gives_each_dimension_its_own_line(report: Report) -> None:
    text = lines(report, everything=True)
    for dimension in report.dimensions:
        assert any(line.startswith(f"{dimension.name} ") for line in text), dimension.name
    assert "more" not in " ".join(text)


def test_a_report_equals_itself_after_json(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report
    with pytest.raises(UsageError, match="no report"):
        Report.from_json("{}")


def test_printing_and_notebooks_show_the_same_page(report: Report) -> None:
    assert str(report) == report.render() == page(report).plain()
    table = report._repr_html_()
    assert "<td" in table and "layer2.0.conv1 out-channels" in table
    assert "<script" not in replace(report, model="<script>")._repr_html_()


def test_parameters_saved_are_what_the_subnet_lacks(report: Report) -> None:
    from tailorbird.types import Config

    net = elastic(randomised(ResidualNet()), (torch.randn(1, 3, 16, 16),))
    for d in net.report.dimensions:
        config = Config.of({}, [d.name]) if d.is_block else Config.of({d.name: d.choices[0]})
        assert net.params() - net.params(config) == d.params_saved, d.name


@torch.library.custom_op("explained::mirror", mutates_args=())
def mirror(x: Tensor) -> Tensor:
    return -x


@mirror.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Mixed(nn.Module):
    """One layer of every kind, and an op no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.first, self.second = nn.Linear(32, 64), nn.Linear(64, 32)
        self.up = nn.Conv1d(32, 16, 3)
        self.deep = nn.Conv1d(16, 16, 3, groups=16)
        self.odd = nn.Linear(16, 24)
        self.last = nn.Linear(24, 4)
        self.table = nn.Parameter(torch.randn(24))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x + self.second(F.gelu(self.first(x)))
        x = self.deep(self.up(x.transpose(1, 2))).mean(2)
        x = mirror(self.odd(x))
        return self.last(x * self.table)


def test_roles_follow_the_op_that_uses_a_tensor() -> None:
    report = elastic(Mixed(), (torch.randint(0, 50, (1, 8)),)).report
    what = {d.name: d.what for d in report.dimensions}
    assert what["embed"] == "embedding"
    assert what["first"] == "hidden units"
    assert what["up"] == "out-channels"
    embed = next(d for d in report.dimensions if d.name == "embed")
    assert {(p.module, p.role) for p in embed.places} == {
        ("embed", "embedding"),
        ("first", "in-features"),
        ("second", "out-features"),
        ("up", "in-channels"),
    }


def test_recurrent_layers_and_einsum_have_roles() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.read = nn.Linear(8, 32)
            self.rnn = nn.GRU(32, 48, batch_first=True)
            self.table = nn.Parameter(torch.randn(48, 64))
            self.head = nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = self.rnn(self.read(x))
            return self.head(torch.einsum("btc,cd->btd", y, self.table))

    report = elastic(Tagger(), (torch.randn(2, 5, 8),)).report
    places = {d.name: {(p.module, p.role) for p in d.places} for d in report.dimensions}
    what = {d.name: d.what for d in report.dimensions}
    assert ("rnn", "in-features") in places["read"]
    assert what["rnn"] == "hidden units"
    assert ("table", "in-features") in places["rnn"]
    assert places["table"] == {("table", "out-features"), ("head", "in-features")}


def test_what_an_unknown_op_pins_is_named_with_the_users_line() -> None:
    report = elastic(Mixed(), (torch.randint(0, 50, (1, 8)),)).report
    (odd,) = [p for p in report.pinned if p.name == "odd.weight[0]"]
    assert (odd.op, odd.module, odd.what) == ("explained::mirror", "odd", "out-features")
    file, _, line = odd.line.rpartition(":")
    assert file.endswith("test_supernet_report.py")
    assert "mirror(self.odd" in Path(__file__).read_text().splitlines()[int(line) - 1]
    text = lines(report)
    first = text[text.index(f"pinned: {len(report.pinned)} axes") + 1]
    assert "(explained::mirror, " in first, "what the user can do something about comes first"
    assert f"test_supernet_report.py:{line}): odd out-features, 24" in first


def test_heads_and_vocabulary_have_names_of_their_own() -> None:
    report = elastic(TextEncoder(), token_ids(1)).report
    assert {d.what for d in report.dimensions if d.kind == "heads"} == {"heads"}
    assert "rows" in {p.what for p in report.pinned}
    assert len(report.inputs) == 2


def test_what_concerns_the_whole_network_is_told_in_its_own_line() -> None:
    net = elastic(
        nn.Sequential(nn.Conv2d(3, 16, 7, padding=3), nn.AdaptiveAvgPool2d(1)), (torch.randn(1, 3, 128, 128),)
    )
    text = lines(net.report)
    sizes = " ".join(map(str, net.space.resolution[0].choices))
    assert f"resolution, 128: {sizes} saves MACs only" in text
    assert any(line.startswith("0:kernel, 7: 3 5 7 saves ") for line in text)


def test_a_deep_network_fits_on_a_page() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(16 + 8 * i, 24 + 8 * i) for i in range(60))
            self.head = nn.Linear(16 + 8 * 60, 3)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.relu(layer(x))
            return self.head(x)

    report = elastic(Deep(), (torch.randn(1, 16),)).report
    text = report.render()
    assert len(report.dimensions) == 60
    assert len(text.splitlines()) < 40
    assert "and 36 dimensions that save less (--all)" in text
    assert "layers.59 hidden units" in text, "what saves most stays"
    assert len(report.render(everything=True).splitlines()) > 60


@dataclass(frozen=True)
class Item:
    name: str


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["layer1.0", "layer1.1", "layer1.2"], ["layer1.0 .. layer1.2"]),
        (["a.0.mlp", "a.0.attn", "a.1.mlp", "a.1.attn"], ["a.{0..1}.mlp", "a.{0..1}.attn"]),
        (["layer2.0.conv1", "layer2.0.conv2"], ["layer2.0.conv1", "layer2.0.conv2"]),
        (["layer2.1", "layer3.1", "layer4.1"], ["layer{2..4}.1"]),
        (["b.1.1", "b.2.1", "b.2.2"], ["b.1.1", "b.2.1 .. b.2.2"]),
        (["b.9", "b.10", "b.12"], ["b.9 .. b.10", "b.12"]),
        (["block1.layer1.conv", "block1.layer2.conv", "head"], ["block1.layer{1..2}.conv", "head"]),
        (["same", "same"], ["same", "same"]),
    ],
)
def test_repeated_layers_are_told_in_one_phrase(names: list[str], told: list[str]) -> None:
    assert [run.words for run in find_runs((Item(name), None) for name in names)] == told


def test_repeated_layers_of_different_size_are_told_apart() -> None:
    assert [len(run.items) for run in find_runs((Item(f"a.{i}"), i // 2) for i in range(4))] == [2, 2]


def test_numbers_of_subnets_stay_readable() -> None:
    assert subnet_words(51_200_000) == "51,200,000"
    assert subnet_words(3 * 10**40) == "about 10^40"
