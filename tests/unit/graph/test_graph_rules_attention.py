"""Attention in which several query heads share a key head: both shrink, and every subnet is exact."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.exactness import compiled


class GroupedQueries(nn.Module):
    """Eight query heads on `keys` key heads, the key heads repeated in one of the usual ways."""

    def __init__(self, kind: str, keys: int = 4, *, masked: bool = False) -> None:
        super().__init__()
        self.kind, self.keys, self.masked = kind, keys, masked
        self.query, self.key, self.value = nn.Linear(6, 32), nn.Linear(6, 4 * keys), nn.Linear(6, 4 * keys)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (layer(x).view(n, t, -1, 4).transpose(1, 2) for layer in (self.query, self.key, self.value))
        times = 8 // self.keys
        if self.kind == "expanded":
            k, v = (y[:, :, None].expand(n, self.keys, times, t, 4).reshape(n, 8, t, 4) for y in (k, v))
        elif self.kind == "interleaved":
            k, v = (y.repeat_interleave(times, 1) for y in (k, v))
        mask = torch.ones(t, t, dtype=torch.bool).tril() if self.masked else None
        y = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=self.kind == "built_in")
        return self.out(y.transpose(1, 2).reshape(n, t, 32))


@pytest.mark.parametrize("kind", ["expanded", "interleaved", "built_in"])
@pytest.mark.parametrize("keys", [1, 2, 4])
def test_key_heads_shrink_with_the_query_heads_they_serve(kind: str, keys: int) -> None:
    net = compiled(GroupedQueries(kind, keys), torch.randn(2, 5, 6))
    assert net.space.heads
    assert net.elastic_fraction > 0.99 if keys > 1 else net.elastic_fraction > 0.5
    assert not net.report.unknown_ops
    if keys > 1:
        sub = dict(net.extract(net.space.smallest()).named_parameters())
        assert sub["key.weight"].shape[0] == sub["query.weight"].shape[0] == 4  # one head of four channels each


def test_a_mask_over_positions_does_not_keep_the_heads() -> None:
    net = compiled(GroupedQueries("built_in", masked=True), torch.randn(2, 5, 6))
    assert {d.size for d in net.space.heads} == {4, 2}
