from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from zoo.small_models import MobileNet, ResNet20, TextEncoder, VisionTransformer, token_ids

from tailorbird.errors import UsageError
from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config

X = (torch.randn(1, 3, 16, 16),)


def stages(net: SuperNet) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {stage.name: stage.layers for stage in net.space.stages}


@pytest.fixture(scope="module")
def resnet() -> SuperNet:
    torch.set_num_threads(1)
    return elastic(ResNet20(3).eval(), X)


def test_a_stage_is_a_run_of_blocks_on_one_stream(resnet: SuperNet) -> None:
    assert stages(resnet) == {
        "layer1": (("layer1.0",), ("layer1.1",), ("layer1.2",)),
        "layer2": (("layer2.1",), ("layer2.2",)),
        "layer3": (("layer3.1",), ("layer3.2",)),
    }
    assert stages(elastic(MobileNet(), (torch.randn(1, 3, 32, 32),))) == {
        "features": (("features.0",),),
        "features#2": (("features.2",),),
    }


def test_the_sublayers_of_a_transformer_make_whole_layers() -> None:
    assert stages(elastic(VisionTransformer(depth=2), X)) == {
        "blocks": (("blocks.0.attn", "blocks.0.mlp"), ("blocks.1.attn", "blocks.1.mlp"))
    }
    assert stages(elastic(VisionTransformer(depth=1), X)) == {"blocks": (("blocks.0.attn", "blocks.0.mlp"),)}
    text = elastic(TextEncoder(), token_ids(1))
    assert sorted(b for stage in text.space.stages for b in stage.blocks) == sorted(d.name for d in text.space.depth)


class Nested(nn.Module):
    """Residual-in-residual: blocks inside a block are a stage of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 2)
        self.first, self.second, self.third = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = x + torch.relu(self.first(x))
        y = y + torch.relu(self.second(y))
        return self.head(x + self.third(y))


def test_nested_blocks_are_a_stage_of_their_own() -> None:
    net = elastic(Nested(), (torch.randn(1, 6),))
    assert len(net.space.stages) == 2
    assert sorted(len(stage.layers) for stage in net.space.stages) == [1, 2]


def test_keep_first_skips_the_last_layers(resnet: SuperNet) -> None:
    assert resnet.space.keep_first({"layer1": 1, "layer3": 2}) == Config.of(skipped=["layer1.1", "layer1.2"])
    assert resnet.space.keep_first({"layer1": 3}) == resnet.space.full()
    vit = elastic(VisionTransformer(depth=2), X)
    config = vit.space.keep_first({"blocks": 1})
    assert config.skipped == ("blocks.1.attn", "blocks.1.mlp")
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(vit(x, config=config), vit.extract(config)(x))


@pytest.mark.parametrize("layers", [{"layer9": 1}, {"layer1": 4}, {"layer1": -1}], ids=str)
def test_stages_and_counts_that_do_not_exist_are_refused(resnet: SuperNet, layers: dict[str, int]) -> None:
    with pytest.raises(UsageError) as caught:
        resnet.space.keep_first(layers)
    assert "layer1 (up to 3)" in caught.value.why


def test_stagewise_samples_keep_the_first_layers_and_at_least_half(resnet: SuperNet) -> None:
    seen = set()
    for seed in range(40):
        config = resnet.space.sample(seed, depth="stages")
        assert config == resnet.space.canonical(config) == resnet.space.sample(seed, depth="stages")
        kept = {s.name: sum(b not in config.skipped for b in s.blocks) for s in resnet.space.stages}
        assert resnet.space.keep_first(kept).skipped == config.skipped
        assert all(2 * kept[s.name] >= len(s.layers) for s in resnet.space.stages)
        seen.add(tuple(kept.values()))
    assert len(seen) > 4
    with pytest.raises(UsageError, match="depth"):
        resnet.space.sample(0, depth="deep")


def test_stages_hold_only_the_blocks_that_are_offered_and_are_reported() -> None:
    net = elastic(ResNet20(3), X, freeze=["layer1.1", "layer3*"])
    assert stages(net) == {"layer1": (("layer1.0",), ("layer1.2",)), "layer2": (("layer2.1",), ("layer2.2",))}
    assert "layer1 (2), layer2 (2)" in net.report.render()


def test_training_draws_stagewise_subnets_on_request() -> None:
    net = elastic(VisionTransformer(depth=2), X)
    result = net.fit([(torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,)))], steps=1, depth="stages")
    assert result.steps == 1
    with pytest.raises(UsageError, match="depth"):
        net.fit([(torch.randn(4, 3, 16, 16), torch.randint(0, 10, (4,)))], steps=1, depth="odd")
