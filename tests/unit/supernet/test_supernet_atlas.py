"""The atlas holds every operator inside the module that ran it, with what its output is made of."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zoo.small_models import ResidualNet, TextEncoder, randomised, token_ids

from tailorbird.document import dump_document, parse_document
from tailorbird.supernet import SuperNet, elastic
from tailorbird.supernet.atlas import ATLAS_SCHEMA, Atlas, Band, draw


def atlas_of(net: SuperNet) -> Atlas:
    return draw(net.graph, net.report.dimensions)


@pytest.fixture(scope="module")
def net() -> SuperNet:
    torch.set_num_threads(1)
    return elastic(randomised(ResidualNet()), (torch.randn(1, 3, 16, 16),))


def test_every_operator_is_drawn_once_and_reached(net: SuperNet) -> None:
    atlas = atlas_of(net)
    ops = [o.op for o in atlas.operators]
    assert ops.count("conv2d") == 10
    assert ops.count("batch_norm") == 10
    assert (ops[0], ops[-1]) == ("input", "output")
    assert {to for _, to in atlas.edges} == set(range(1, len(ops))), "everything but the input has an operand"
    assert all(source < target for source, target in atlas.edges)


def test_operators_lie_in_the_modules_that_run_them(net: SuperNet) -> None:
    atlas = atlas_of(net)
    paths = {call.path: call for call in atlas.calls}
    assert {"layer1", "layer1.0", "layer2.0.downsample"} <= set(paths)
    assert paths["layer1.0"].kind == "ResidualBlock"
    assert atlas.calls[paths["layer1.0"].parent].path == "layer1"
    conv = next(o for o in atlas.operators if o.module == "layer2.0.conv1")
    assert (atlas.calls[conv.call].path, conv.kind, conv.shape) == ("layer2.0", "Conv2d", "N x 32 x 8 x 8")
    assert conv.parameters == 32 * 16 * 9
    assert conv.line.rpartition(":")[0].endswith("small_models.py")


def test_a_call_never_waits_for_what_comes_after_it() -> None:
    class Twice(nn.Module):
        """One module used at both ends of another: drawn as one box it would be a circle."""

        def __init__(self) -> None:
            super().__init__()
            self.outer = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
            self.inner = nn.Sequential(nn.Linear(16, 16), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(self.outer(x)))

    atlas = atlas_of(elastic(Twice(), (torch.randn(2, 16),)))
    assert [call.path for call in atlas.calls] == ["outer", "inner", "outer"]
    for index in range(len(atlas.calls)):
        inside = [i for i, o in enumerate(atlas.operators) if o.call == index]
        assert inside == list(range(inside[0], inside[-1] + 1))


def test_bands_are_the_groups_of_the_output(net: SuperNet) -> None:
    atlas = atlas_of(net)
    names = [d.name for d in net.report.dimensions]
    made = {o.module: o for o in atlas.operators if o.module}
    assert made["layer2.0.conv1"].bands == (Band(names.index("layer2.0.conv1"), 32),)
    assert made["layer2.0.bn2"].bands == made["layer2.1.bn2"].bands
    assert {names.index("stem.0"), names.index("layer1.0.conv1")} <= set(made["layer1.0.conv2"].dimensions)
    assert made["fc"].bands == ()
    assert made["fc"].pin == "an output of the network (output)"
    assert {d for o in atlas.operators for d in o.dimensions} == {
        i for i, d in enumerate(net.report.dimensions) if not d.is_block
    }, "every dimension but the blocks is somewhere in the picture"


def test_a_concatenation_has_a_band_for_each_part() -> None:
    class Cat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(8, 32), nn.Linear(48, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.cat([self.a(x), self.b(x)], 1))

    net = elastic(Cat(), (torch.randn(2, 8),))
    names = [d.name for d in net.report.dimensions]
    cat = next(o for o in atlas_of(net).operators if o.op == "cat")
    assert cat.bands == (Band(names.index("a"), 16), Band(names.index("b"), 32))


def test_blocks_hold_what_goes_when_they_are_skipped(net: SuperNet) -> None:
    atlas = atlas_of(net)
    areas = {net.report.dimensions[area.dimension].name: area for area in atlas.areas}
    assert set(areas) == {d.name for d in net.report.dimensions if d.is_block}
    held = {atlas.operators[i].module for i in areas["layer1.0"].operators}
    assert {"layer1.0.conv1", "layer1.0.bn1", "layer1.0.conv2", "layer1.0.bn2"} <= held
    lost = sum(atlas.operators[i].parameters for i in areas["layer1.0"].operators)
    assert lost == next(d.params_saved for d in net.report.dimensions if d.name == "layer1.0")


def test_an_atlas_survives_json(net: SuperNet) -> None:
    for made in (net, elastic(TextEncoder(), token_ids(1))):
        atlas = atlas_of(made)
        assert parse_document(Atlas, dump_document(atlas), schema=ATLAS_SCHEMA) == atlas
