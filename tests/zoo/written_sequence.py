"""Networks over text, sound, tables and pairs as users write them by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils import _pytree as pytree


class RelativeAttention(nn.Module):
    """Transformer-XL (Dai et al., 2019): relative positions, biases u and v per head, the shift by padding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.keys = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.place = nn.Linear(width, width, bias=False)
        self.u = nn.Parameter(torch.randn(heads, width // heads) * 0.1)
        self.v = nn.Parameter(torch.randn(heads, width // heads) * 0.1)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        n, t, width = x.shape
        q = self.query(x).view(n, t, self.heads, -1)
        k, v = self.keys(x).view(n, t, 2, self.heads, -1).unbind(2)
        r = self.place(places).view(t, self.heads, -1)
        content = torch.einsum("bihd,bjhd->bhij", q + self.u, k)
        position = torch.einsum("bihd,jhd->bhij", q + self.v, r)
        position = F.pad(position, (1, 0)).view(n, self.heads, t + 1, t)[:, :, 1:].view(n, self.heads, t, t)
        weights = ((content + position) / (width // self.heads) ** 0.5).softmax(-1)
        return self.out(torch.einsum("bhij,bjhd->bihd", weights, v).reshape(n, t, width))


class TransformerXL(nn.Module):
    def __init__(self, width: int = 32, heads: int = 4, length: int = 10) -> None:
        super().__init__()
        self.words = nn.Embedding(60, width)
        angles = torch.arange(length).flip(0)[:, None] / 10 ** (torch.arange(0, width, 2) / width)[None]
        self.register_buffer("places", torch.cat((angles.sin(), angles.cos()), -1))
        self.attention = nn.ModuleList(RelativeAttention(width, heads) for _ in range(2))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width)) for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 60)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for attention, feed in zip(self.attention, self.feed, strict=True):
            x = x + attention(self.norm(x), self.places)
            x = x + feed(x)
        return self.head(x)


class ConvTasNet(nn.Module):
    """Luo and Mesgarani, 2019, small: 1-D encoder and decoder, dilated depthwise blocks with weight_norm, masks."""

    def __init__(self, width: int = 32, hidden: int = 64, speakers: int = 2) -> None:
        super().__init__()
        self.speakers = speakers
        self.encoder = nn.Conv1d(1, width, 16, 8, bias=False)
        self.norm = nn.GroupNorm(1, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                weight_norm(nn.Conv1d(width, hidden, 1)),
                nn.PReLU(),
                nn.GroupNorm(1, hidden),
                weight_norm(nn.Conv1d(hidden, hidden, 3, padding=2**i, dilation=2**i, groups=hidden)),
                nn.PReLU(),
                weight_norm(nn.Conv1d(hidden, width, 1)),
            )
            for i in range(3)
        )
        self.mask = nn.Conv1d(width, speakers * width, 1)
        self.decoder = nn.ConvTranspose1d(width, 1, 16, 8, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.encoder(wave)
        y = self.norm(x)
        for block in self.blocks:
            y = y + block(y)
        masks = self.mask(y).view(x.shape[0], self.speakers, x.shape[1], -1).sigmoid()
        separate = (x.unsqueeze(1) * masks).flatten(0, 1)
        return self.decoder(separate).view(wave.shape[0], self.speakers, -1)


class LstmTagger(nn.Module):
    """A bidirectional LSTM of two layers over words."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(80, 32)
        self.lstm = nn.LSTM(32, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.between = nn.Linear(2 * hidden, 48)
        self.tags = nn.Linear(48, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.words(tokens))
        return self.tags(torch.tanh(self.between(y)))


class GruForecast(nn.Module):
    """A GRU over a time series after a causal convolution; the last state decides."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 24, 3)
        self.gru = nn.GRU(24, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ELU(), nn.Linear(32, 4))

    def forward(self, series: Tensor) -> Tensor:
        x = F.relu(self.conv(F.pad(series, (2, 0)))).transpose(1, 2)
        _, last = self.gru(x)
        return self.head(last[-1])


class Siamese(nn.Module):
    """Two inputs through one encoder; their features are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()
        )
        self.project = nn.Linear(32, 24)
        self.compare = nn.Linear(3 * 24, 1)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (self.project(self.encoder(x).mean((2, 3))) for x in (left, right))
        return F.cosine_similarity(a, b), self.compare(torch.cat((a, b, (a - b).abs()), 1))


class TiedLanguageModel(nn.Module):
    """The output layer is the embedding, transposed; causal attention through nn.MultiheadAttention."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(70, width)
        self.places = nn.Parameter(torch.randn(9, width) * 0.1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.feed = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width))
        self.head = nn.Linear(width, 70, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("causal", torch.ones(9, 9).triu(1).bool())

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        y = self.norm1(x)
        y, _ = self.attention(y, y, y, attn_mask=self.causal, need_weights=False)
        x = x + y
        return self.head(x + self.feed(self.norm2(x)))


class TorchTransformer(nn.Module):
    """nn.Transformer: encoder, decoder and cross-attention of the library."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(40, 32), nn.Embedding(40, 32)
        self.transformer = nn.Transformer(32, 4, 1, 1, 64, batch_first=True)
        self.head = nn.Linear(32, 40)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.transformer(self.source(source), self.target(target)))


class DictOutput(nn.Module):
    """Two heads over one trunk, given out by name."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 48), nn.Hardtanh())
        self.heads = nn.ModuleDict(
            {"class": nn.Linear(48, 5), "value": nn.Sequential(nn.Linear(48, 16), nn.Linear(16, 1))}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        x = self.trunk(x)
        return {"heads": [self.heads["class"](x), self.heads["value"](x)], "norm": x.norm(dim=1)}


@dataclass
class Prediction:
    """What `DataclassOutput` gives out."""

    logits: Tensor
    features: Tensor


pytree.register_dataclass(Prediction)


class DataclassOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv1d(4, 32, 5, 2, 2), nn.GELU(), nn.Conv1d(32, 48, 3, 2, 1), nn.GELU())
        self.project, self.head = nn.Linear(48, 8), nn.Linear(48, 6)

    def forward(self, x: Tensor) -> Prediction:
        x = self.features(x).mean(-1)
        return Prediction(self.head(x), self.project(x))


class WaveNet(nn.Module):
    """van den Oord et al., 2016: gated causal convolutions, residual and skip paths that part and meet."""

    def __init__(self, width: int = 24, skip: int = 32) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, width, 1)
        self.dilated = nn.ModuleList(nn.Conv1d(width, 2 * width, 2, dilation=2**i) for i in range(4))
        self.residual = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(4))
        self.skip = nn.ModuleList(nn.Conv1d(width, skip, 1) for _ in range(4))
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, 32, 1), nn.ReLU(), nn.Conv1d(32, 16, 1))

    def forward(self, wave: Tensor) -> Tensor:
        x, total = self.start(wave), None
        for index, (dilated, residual, skip) in enumerate(zip(self.dilated, self.residual, self.skip, strict=True)):
            a, b = dilated(F.pad(x, (2**index, 0))).chunk(2, 1)
            y = a.tanh() * b.sigmoid()
            total = skip(y) if total is None else total + skip(y)
            x = x + residual(y)
        return self.end(total)


class Recommender(nn.Module):
    """DLRM-like (Naumov et al., 2019): embedding bags, pairwise products of features, selected by an index."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.dense = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, width), nn.ReLU())
        self.tables = nn.ModuleList(nn.Embedding(30, width) for _ in range(3))
        rows, columns = torch.tril_indices(4, 4, -1)
        self.register_buffer("pairs", rows * 4 + columns)
        self.top = nn.Sequential(nn.Linear(width + 6, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())

    def forward(self, values: Tensor, ids: Tensor) -> Tensor:
        x = self.dense(values)
        rows = torch.stack([x, *(table(ids[:, i]) for i, table in enumerate(self.tables))], 1)
        products = torch.bmm(rows, rows.transpose(1, 2)).flatten(1)[:, self.pairs]
        return self.top(torch.cat((x, products), 1))


class PointNet(nn.Module):
    """Qi et al., 2017: a transform predicted from the points multiplies them; a maximum over the set."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 9)
        )
        self.shared = nn.Sequential(nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1))
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, points: Tensor) -> Tensor:
        turn = self.predict(points).view(-1, 3, 3) + torch.eye(3, device=points.device)
        x = torch.bmm(points.transpose(1, 2), turn).transpose(1, 2)
        return self.head(self.shared(x).max(-1).values)


class MixtureOfExperts(nn.Module):
    """Dense gating: every expert runs, batched in one bmm over stacked weights."""

    def __init__(self, width: int = 32, hidden: int = 48, experts: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, hidden) * 0.1)
        self.down = nn.Parameter(torch.randn(experts, hidden, width) * 0.1)
        self.stem, self.head = nn.Linear(12, width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = self.gate(x).softmax(-1)
        y = torch.bmm(F.silu(torch.bmm(x.expand(self.up.shape[0], -1, -1), self.up)), self.down)
        return self.head(x + torch.einsum("enw,ne->nw", y, weights))
