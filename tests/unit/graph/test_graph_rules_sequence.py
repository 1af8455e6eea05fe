"""Rules of recurrent layers, transposed convolutions, einsum, tables: dims behave, and subnets are exact."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode
from zoo.exactness import compiled

from tailorbird.graph import Shapes, count_macs, trace


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], *, batch_first: bool = True, **options: object) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.words = nn.Embedding(20, 12)
        self.layer = kind(12, 8, batch_first=batch_first, **options)
        self.head = nn.LazyLinear(5)
        self(torch.zeros(2, 6, dtype=torch.int64))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.words(tokens)
        y, state = self.layer(x if self.batch_first else x.transpose(0, 1))
        last = state[0] if isinstance(state, tuple) else state
        return self.head(y), last.mean(2)


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: Recurrent(nn.LSTM),
    "lstm_both_ways": lambda: Recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm_projected": lambda: Recurrent(nn.LSTM, num_layers=2, proj_size=4),
    "lstm_without_bias": lambda: Recurrent(nn.LSTM, bias=False),
    "gru": lambda: Recurrent(nn.GRU, num_layers=3, batch_first=False),
    "gru_both_ways": lambda: Recurrent(nn.GRU, bidirectional=True),
    "rnn": lambda: Recurrent(nn.RNN, nonlinearity="relu"),
    "rnn_tanh": lambda: Recurrent(nn.RNN, num_layers=2, bidirectional=True, batch_first=False),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_shrink_in_every_cell(name: str) -> None:
    tokens = torch.randint(0, 20, (3, 6))
    net = compiled(RECURRENT[name](), tokens)
    assert net.elastic_fraction > (0.85 if name == "lstm_projected" else 0.98)
    assert net.report.any_batch
    assert not net.report.unknown_ops
    smallest = net.extract(net.space.smallest())
    assert dict(smallest.named_parameters())["layer.weight_hh_l0"].shape[1] in {1, 2}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection_never_shrinks_to_the_hidden_size() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(8, 10, proj_size=6, bidirectional=True, batch_first=True)
            self.head = nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.layer(x)[0])
            return y

    net = compiled(Projected(), torch.randn(2, 5, 8))
    assert [d.size for d in net.space.width] == [6]


def test_a_given_state_follows_the_hidden_size() -> None:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.GRU(6, 8, batch_first=True), nn.GRU(6, 8, batch_first=True)
            self.head = nn.Linear(8, 4)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.head(self.decoder(y, self.encoder(x)[1])[0])

    net = compiled(Decoder(), torch.randn(2, 5, 6), torch.randn(2, 3, 6))
    assert net.elastic_fraction > 0.99
    assert len(net.space.width) == 1


def test_a_recurrent_layer_costs_its_matrices_at_every_step() -> None:
    graph = trace(nn.LSTM(6, 8, batch_first=True).eval(), (torch.randn(1, 5, 6),))
    assert count_macs(Shapes(graph, {})) == 5 * 4 * 8 * (6 + 8)


class Between(nn.Module):
    """`op` between two layers over (N, 3, 8): its channels are elastic where the op lets them be."""

    def __init__(self, op: Callable[[Tensor], Tensor] | nn.Module, out: int = 8) -> None:
        super().__init__()
        self.op = op
        self.first, self.last = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(out, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.op(F.relu(self.first(x))))


def settled(layer: nn.Module) -> nn.Module:
    """Power iteration done, as after training."""
    layer.train()(torch.randn(2, 8, 8))
    return layer.eval()


OPS: dict[str, Callable[[], nn.Module]] = {
    "transposed": lambda: Between(nn.ConvTranspose1d(8, 6, 4, 2, 1), 6),
    "transposed_grouped": lambda: Between(nn.ConvTranspose1d(8, 12, 4, 2, 1, groups=4), 12),
    "transposed_depthwise": lambda: Between(nn.ConvTranspose1d(8, 8, 3, groups=8, bias=False)),
    "weight_norm": lambda: Between(parametrizations.weight_norm(nn.Conv1d(8, 8, 3, padding=1))),
    "weight_norm_of_a_tap": lambda: Between(parametrizations.weight_norm(nn.Conv1d(8, 8, 3, padding=1), dim=2)),
    "spectral_norm": lambda: Between(settled(parametrizations.spectral_norm(nn.Conv1d(8, 8, 3, padding=1)))),
    "instance_norm": lambda: Between(nn.InstanceNorm1d(8, affine=True)),
    "glu": lambda: Between(nn.Sequential(nn.Conv1d(8, 12, 1), nn.GLU(1)), 6),
    "type_as": lambda: Between(lambda x: x.type_as(torch.zeros(2, 2, 2, 2))),
    "cosine": lambda: Between(lambda x: x * F.cosine_similarity(x, x.flip(2), dim=1).unsqueeze(1)),
    "cdist": lambda: Between(lambda x: x @ torch.cdist(x.transpose(1, 2), x.transpose(1, 2)).softmax(1)),
    "causal_mask": lambda: Between(
        lambda x: x @ torch.ones(8, 8).tril().masked_fill(torch.eye(8, dtype=torch.bool), 0.5)
    ),
    "one_hot": lambda: Between(lambda x: x * F.one_hot(torch.arange(8) % 3, 3).sum(1)),
    "vector": lambda: Between(lambda x: x * (x @ torch.arange(8.0))[..., None]),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_between_layers_leave_channels_elastic(name: str) -> None:
    net = compiled(OPS[name](), torch.randn(2, 3, 8))
    assert net.elastic_fraction > 0.9, net.report.render()
    assert net.report.any_batch
    assert not net.report.unknown_ops


def test_a_transposed_convolution_costs_a_product_for_each_input_and_tap() -> None:
    layer, x = nn.ConvTranspose2d(8, 12, 3, 2, groups=4).eval(), torch.randn(1, 8, 5, 5)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert 2 * count_macs(Shapes(trace(layer, (x,)), {})) == counter.get_total_flops()


class Equation(nn.Module):
    """Attention and layers written as einsum over (N, T, 8)."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.heads = nn.Parameter(torch.randn(3, 16, 4, 4))
        self.out = nn.Parameter(torch.randn(4, 4, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        match self.kind:
            case "attention":
                q, k, v = torch.einsum("ntc,schd->snthd", x, self.heads).unbind(0)
                scores = torch.einsum("bihd,bjhd->bhij", q, k).mul(0.5).softmax(-1)
                x = torch.einsum("bhij,bjhd->bihd", scores, v)
                x = torch.einsum("...hd,hdc->...c", x, self.out)
            case "implicit":
                x = torch.einsum("abc,cd", x, self.heads[0, :, 0].repeat(1, 4))
            case _:
                x = torch.einsum("ntc->nct", x).transpose(1, 2)
        return self.last(x)


@pytest.mark.parametrize(("kind", "fraction"), [("attention", 0.99), ("implicit", 0.3), ("transpose", 0.3)])
def test_einsum_is_a_product_of_matrices(kind: str, fraction: float) -> None:
    net = compiled(Equation(kind), torch.randn(2, 6, 8))
    assert net.elastic_fraction >= fraction, net.report.render()
    assert net.report.any_batch
    assert not net.report.unknown_ops
    assert [d.size for d in net.space.heads] == ([4] if kind == "attention" else [])


def test_a_diagonal_is_refused_and_pinned() -> None:
    class Diagonal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 36)

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("nii->ni", self.first(x).reshape(-1, 6, 6))

    assert "diagonal" in compiled(Diagonal(), torch.randn(2, 8)).report.unknown_ops[0]


def test_einsum_costs_one_product_for_each_combination_of_letters() -> None:
    net = compiled(Equation("attention"), torch.randn(1, 6, 8))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.weights(torch.randn(1, 6, 8))
    assert 2 * net.macs() == counter.get_total_flops()


def test_a_bag_of_embeddings_keeps_its_vocabulary() -> None:
    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.EmbeddingBag(20, 12, mode="mean"), nn.Linear(12, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.head(self.words(tokens))

    net = compiled(Bag(), torch.randint(0, 20, (3, 6)))
    assert net.elastic_fraction > 0.9
    assert not net.report.unknown_ops


# -- constants that a forward pass computes


class Slopes(nn.Module):
    """Attention with ALiBi (Press et al., 2022): slopes computed from the number of heads in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 48), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 4, 4).permute(2, 0, 3, 1, 4)
        slopes = torch.pow(torch.tensor(0.5), torch.arange(1, 5))
        bias = slopes[:, None, None] * (torch.arange(t)[None, :] - torch.arange(t)[:, None])
        y = (q @ k.transpose(-1, -2) / 2 + bias).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, t, 16))


def test_heads_shrink_together_with_a_table_that_the_forward_pass_computes_for_them() -> None:
    net = compiled(Slopes(), torch.randn(2, 6, 8))
    assert [d.size for d in net.space.heads] == [4]
    assert net.elastic_fraction > 0.99
    assert "arange" not in str(net.extract(net.space.smallest()).graph)


def test_what_depends_on_the_batch_or_is_changed_in_place_or_handed_out_is_computed_anew() -> None:
    class Fresh(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 16)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            table = torch.zeros(16)
            table[:4].add_(1.0)
            rows = torch.arange(x.shape[0])[:, None]
            return {"scores": self.first(x) + table + rows, "table": torch.arange(6)}

    net = compiled(Fresh(), torch.randn(2, 8))
    x = torch.randn(3, 8)
    with torch.no_grad():
        net(x)["table"].zero_()
        again = net(x)
    assert torch.equal(again["table"], torch.arange(6))
    assert torch.equal(again["scores"], net.weights(x)["scores"])


def test_gradients_flow_into_a_weight_next_to_a_folded_table() -> None:
    net = compiled(Slopes(), torch.randn(2, 6, 8))
    net(torch.randn(2, 6, 8), config=net.space.smallest()).sum().backward()
    assert all(p.grad is not None for p in net.weights.parameters())
