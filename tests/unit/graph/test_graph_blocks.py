from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.exactness import compiled
from zoo.small_models import ResidualNet, ResNet20, TextEncoder, VisionTransformer, token_ids

from tailorbird.graph import trace


def names(model: nn.Module, *inputs: Tensor) -> list[str]:
    return [block.name for block in trace(model.eval(), inputs).blocks]


def test_only_identity_shortcuts_can_be_skipped() -> None:
    assert names(ResidualNet(), torch.randn(1, 3, 16, 16)) == ["layer1.0", "layer1.1", "layer2.1"]


def test_a_scaled_or_normalised_shortcut_is_still_one() -> None:
    """As in MetaFormer (x * scale + f(x)), MobileOne (norm(x) + conv(x)) and post-norm layers."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.head = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
            self.scale = nn.Parameter(torch.rand(8, 1, 1))
            self.mix = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x = x * self.scale + self.mix[0](x)
            x = self.mix[1](x).add_(self.norm(x))
            return self.head(x)

    model = Model()
    assert names(model, torch.randn(1, 3, 8, 8)) == ["mix.0", "mix.1"]
    net = compiled(model, torch.randn(2, 3, 8, 8))
    assert [d.name for d in net.space.depth] == ["mix.0", "mix.1"]


def test_zero_padded_shortcuts_are_not_skipped() -> None:
    assert names(ResNet20(2), torch.randn(1, 3, 16, 16)) == ["layer1.0", "layer1.1", "layer2.1", "layer3.1"]


def test_two_blocks_of_one_module_are_named_after_their_children() -> None:
    found = names(VisionTransformer(depth=1), torch.randn(1, 3, 16, 16))
    assert found == ["blocks.0.attn", "blocks.0.mlp"]


def test_side_inputs_such_as_masks_do_not_hinder() -> None:
    assert names(TextEncoder(), *token_ids(1)) == ["out", "down"]


def test_a_body_whose_inside_is_used_elsewhere_is_no_block() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b, self.head = (nn.Linear(8, 8) for _ in range(4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            inside = F.relu(self.a(x))
            return torch.cat([self.head(x + self.b(inside)), inside], 1)

    assert names(Model(), torch.randn(2, 8)) == []


def test_a_sum_without_weights_on_the_way_is_no_block() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(x + torch.tanh(x))

    assert names(Model(), torch.randn(2, 8)) == []


def test_parallel_branches_that_share_their_norm_are_one_block() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.first, self.second = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(x)
            return x + self.first(y) + self.second(y)

    net = compiled(nn.Sequential(nn.Linear(4, 8), Parallel(), Parallel()), torch.randn(2, 4))
    assert {d.name for d in net.space.depth if d.size == 1} == {"1", "2"}


def test_a_branch_that_does_not_come_from_the_stream_stays() -> None:
    class Lateral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.side, self.block = nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            return y + self.block(y) + self.side(x)

    assert names(Lateral(), torch.randn(2, 4)) == ["block"]


def test_a_branch_that_widens_the_number_format_is_no_block() -> None:
    class Widening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(8, 6), nn.Linear(6, 6).double(), nn.Linear(6, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            y = self.stem(x)
            z: Tensor = self.head(y + self.body(y.double()))
            return z

    net = compiled(Widening(), torch.randn(2, 8))
    assert [d.name for d in net.space.dimensions] == ["stem"]
