"""Rules of ops that pick entries by position, resample, repeat or reduce: dims behave, and subnets are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.exactness import compiled

from tailorbird.supernet import SuperNet


class Between(nn.Module):
    """An op between two convolutions over (N, 3, 8, 8): its channels are elastic where the op lets them be."""

    def __init__(self, op: Callable[[Tensor], Tensor], out: int = 16, rank: int = 4) -> None:
        super().__init__()
        self.op, self.rank = op, rank
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.last = nn.Conv2d(out, 5, 1) if rank == 4 else nn.Linear(out, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(F.relu(self.first(x))))


def image() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def pinned_by(net: SuperNet, name: str) -> set[str]:
    return {pin.op for pin in net.report.pinned if pin.name.startswith(name)}


PASS: dict[str, tuple[Callable[[Tensor], Tensor], int, int]] = {
    "roll": (lambda x: x.roll((1, -2), (2, 3)), 16, 4),
    "flip": (lambda x: x.flip(3), 16, 4),
    "index": (lambda x: x[:, :, torch.tensor([0, 3, 5])[:, None], torch.tensor([1, 2])], 16, 4),
    "index_apart": (lambda x: x[:, :, torch.tensor([0, 3])][..., torch.tensor([1, 2])], 16, 4),
    "index_select": (lambda x: x.index_select(2, torch.tensor([0, 4, 4])), 16, 4),
    "gather": (lambda x: x.gather(2, torch.zeros(1, 1, 2, 8, dtype=torch.int64).expand(x.shape[0], 16, 2, 8)), 16, 4),
    "cumsum": (lambda x: x.cumsum(2), 16, 4),
    "topk": (lambda x: x.topk(3, dim=3)[0], 16, 4),
    "sort": (lambda x: x.flatten(2).sort(dim=2).values.mean(2), 16, 2),
    "unfold": (lambda x: x.unfold(2, 4, 2).mean(-1), 16, 4),
    "im2col": (lambda x: F.unfold(x, 2, stride=2).transpose(1, 2), 64, 3),
    "col2im": (lambda x: F.fold(F.unfold(x, 2, stride=2), (8, 8), 2, stride=2), 16, 4),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), 16, 4),
    "nearest": (lambda x: F.interpolate(x, size=(5, 9)), 16, 4),
    "nearest_exact": (lambda x: F.interpolate(x, size=(5, 9), mode="nearest-exact"), 16, 4),
    "bicubic_antialias": (lambda x: F.interpolate(x, size=(5, 6), mode="bicubic", antialias=True), 16, 4),
    "linear1d": (lambda x: F.interpolate(x.flatten(2), size=10, mode="linear").transpose(1, 2), 16, 3),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), 4, 4),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), 64, 4),
    "channel_shuffle": (lambda x: F.channel_shuffle(x, 4), 16, 4),
    "grid_sample": (
        lambda x: F.grid_sample(x, x.mean((1, 2, 3))[:, None, None, None].expand(-1, 4, 4, 2), align_corners=False),
        16,
        4,
    ),
    "tile": (lambda x: x.tile(2, 1), 16, 4),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), 32, 4),
    "meshgrid": (lambda x: x + torch.meshgrid(torch.arange(8), torch.arange(8), indexing="xy")[0], 16, 4),
    "vector_norm": (lambda x: x / torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True).clamp_min(1e-6), 16, 4),
    "channel_norm": (lambda x: F.normalize(x, dim=1), 16, 4),
    "var_mean": (lambda x: (x - torch.var_mean(x, dim=(2, 3), keepdim=True)[1]), 16, 4),
    "max": (lambda x: x - x.max(dim=1, keepdim=True)[0], 16, 4),
    "max_all": (lambda x: x / (1 + x.abs().max()), 16, 4),
    "argmax_elsewhere": (lambda x: x * x.argmax(3, keepdim=True), 16, 4),
    "expand": (lambda x: x * x.mean(1, keepdim=True).expand(-1, 16, -1, -1), 16, 4),
    "zeros": (lambda x: x + x.new_zeros(x.shape[0], 16, 8, 8), 16, 4),
    "baddbmm": (lambda x: torch.baddbmm(x.flatten(2), x.flatten(2), torch.ones(1, 64, 64).expand(x.shape[0], -1, -1))
                .view(x.shape), 16, 4),
    "reshape_as": (lambda x: F.gelu(x.flatten(0, 1)).reshape_as(x), 16, 4),
    "expand_as": (lambda x: x * x.mean(1, keepdim=True).expand_as(x), 16, 4),
    "reflection_pad": (lambda x: F.pad(x, (1, 2, 1, 0), mode="reflect"), 16, 4),
    "adaptive_max": (lambda x: F.adaptive_max_pool2d(x, 3), 16, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", PASS)
def test_channels_pass_ops_over_other_axes(name: str) -> None:
    op, out, rank = PASS[name]
    net = compiled(Between(op, out, rank), image())
    assert not net.report.unknown_ops
    assert net.report.any_batch
    elastic = {d.name.split(":")[0] for d in net.space.width}
    assert elastic == {"first"} | ({"last"} if name == "repeat_interleave" else set()), net.report.render()


PIN: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "roll": (lambda x: x.roll(1, 1), "roll"),
    "index": (lambda x: x[:, torch.tensor([3, 1, 2, *range(13)])], "index"),
    "cumsum": (lambda x: x.cumsum(1), "cumsum"),
    "topk": (lambda x: x.topk(16, dim=1)[0], "topk"),
    "argmax": (lambda x: x + x.argmax(1, keepdim=True), "argmax"),
    "max_with_position": (lambda x: x + x.max(1, keepdim=True)[1], "max"),
}


@pytest.mark.parametrize("name", PIN)
def test_ops_that_depend_on_the_order_of_channels_pin_them(name: str) -> None:
    op, culprit = PIN[name]
    net = compiled(Between(op), image())
    assert not net.report.unknown_ops
    assert pinned_by(net, "first.weight[0]") == {culprit}


def test_samples_picked_by_position_are_the_users_at_any_batch() -> None:
    model = Between(lambda x: x[torch.tensor([1, 0])])
    net = compiled(model, image())
    assert net.report.unknown_ops == ("index: entries are picked from the batch",)
    x = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(net(x), model(x))


def test_a_table_of_position_biases_keeps_the_heads_elastic() -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(12, 48), nn.Linear(16, 12)
            self.table = nn.Parameter(torch.randn(7, 4))
            self.register_buffer("where", (torch.arange(4)[:, None] - torch.arange(4) + 3).flatten())

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(x.shape[0], 4, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
            bias = self.table[self.where].view(4, 4, 4).permute(2, 0, 1)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None])
            return self.out(y.transpose(1, 2).reshape(x.shape[0], 4, 16))

    net = compiled(Biased(), torch.randn(2, 4, 12))
    assert [(d.name, d.size) for d in net.space.heads] == [("qkv", 4)]
    assert ("table", 1) in next(g.uses for g in net.graph.groups if g.kind == "heads")


@pytest.mark.parametrize("fused", [True, False])
def test_a_single_head_shrinks_its_queries_at_the_full_scale(*, fused: bool) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(x), self.k(x), self.v(x)
            if fused:
                return F.scaled_dot_product_attention(q, k, v)
            return (q @ k.transpose(1, 2) * 8**-0.5).softmax(-1) @ v

    model = Single()
    net = compiled(model, x := torch.randn(2, 5, 6))
    assert [(d.name, d.size) for d in net.space.width] == [("q", 8)]
    config = net.space.smallest()
    kept = next(iter(net.selection(config).kept.values()))
    gone = [i for i in range(8) if i not in kept.tolist()]
    with torch.no_grad():
        for weight in (model.q.weight, model.q.bias, model.k.weight, model.k.bias):
            weight[gone] = 0
        torch.testing.assert_close(net(x, config=config), model(x), rtol=1e-5, atol=1e-6)


def test_one_key_for_all_query_heads_leaves_the_heads_elastic() -> None:
    """Multi-query attention (Shazeer, 2019)."""

    class MultiQuery(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.kv, self.out = nn.Linear(12, 16), nn.Linear(12, 8), nn.Linear(16, 12)

        def forward(self, x: Tensor) -> Tensor:
            q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
            k, v = self.kv(x)[:, None].chunk(2, -1)
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    net = compiled(MultiQuery(), torch.randn(2, 5, 12))
    assert [(d.name, d.size) for d in net.space.heads] == [("q", 4)]


def test_heads_split_unevenly_over_convolutions_stay_elastic() -> None:
    """Two kinds of heads in one projection (as in CoaT): a concatenation inside the fixed axis of q, k and v."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(10, 60), nn.Linear(20, 10)
            self.small = nn.Conv1d(8, 8, 1, groups=8)
            self.large = nn.Conv1d(12, 12, 3, padding=1, groups=12)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).reshape(x.shape[0], 6, 3, 5, 4).permute(2, 0, 3, 1, 4).unbind(0)
            y = q @ (k.softmax(2).transpose(-1, -2) @ v)
            few, many = v.transpose(-1, -2).reshape(x.shape[0], 20, 6).split([8, 12], 1)
            z = torch.cat([self.small(few), self.large(many)], 1).reshape(x.shape[0], 5, 4, 6).transpose(-1, -2)
            return self.out((y + q * z).transpose(1, 2).reshape(x.shape[0], 6, 20))

    net = compiled(Split(), torch.randn(2, 6, 10))
    assert [d.size for d in net.space.heads] == [2, 3]


def test_module_names_that_are_no_identifiers_compile() -> None:
    model = nn.Sequential()
    model.add_module("block-0", nn.Linear(4, 8))
    model.add_module("a", nn.Sequential())
    model.a.add_module("b_c", nn.Linear(8, 8))
    model.add_module("a_b", nn.Sequential())
    model.a_b.add_module("c", nn.Linear(8, 2))
    net = compiled(model, torch.randn(2, 4))
    assert [d.name for d in net.space.width] == ["block-0", "a.b_c"]


class MultiQuery(nn.Module):
    """Attention whose one key head and one value head are picked by a list of positions from the end."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self.key = key
        self.qkv, self.out = nn.Linear(32, 6 * 8), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        n, s, _ = x.shape
        heads = self.qkv(x).view(n, s, 6, 8)
        q, k, v = heads[:, :, :-2], heads[:, :, [self.key]], heads[:, :, [-1]]
        q, k, v = (part.transpose(1, 2) for part in (q, k.expand(n, s, 4, 8), v.expand(n, s, 4, 8)))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, s, 32))


@pytest.mark.parametrize(("key", "heads"), [(-2, [4]), (4, [])])
def test_positions_from_the_end_leave_what_lies_before_them_free(key: int, heads: list[int]) -> None:
    net = compiled(MultiQuery(key), torch.randn(2, 6, 32))
    assert [dimension.size for dimension in net.space.heads] == heads


def test_joining_with_nothing_changes_nothing() -> None:
    net = compiled(Between(lambda x: torch.cat([x[:, :0], x], 1)), image())
    assert [dimension.size for dimension in net.space.width] == [16]


class Gathering(nn.Module):
    """Entry i of the index picks from entry i of a tensor with more of them."""

    def __init__(self, picked: int) -> None:
        super().__init__()
        self.values = nn.Conv2d(3, 8, 3)
        self.scores = nn.Conv2d(3, picked, 3)
        self.head = nn.Linear(picked, 4)

    def forward(self, x: Tensor) -> Tensor:
        best = self.scores(x).flatten(2).topk(4, dim=2)[1]
        y: Tensor = self.head(self.values(x).flatten(2).gather(2, best).mean(2))
        return y


@pytest.mark.parametrize(("picked", "elastic"), [(8, ["scores"]), (6, [])])
def test_a_gather_pairs_channels_only_where_both_tensors_have_all_of_them(picked: int, elastic: list[str]) -> None:
    net = compiled(Gathering(picked), image())
    assert len(net.space.width) == len(elastic), net.report.render()
    assert not net.report.unknown_ops
