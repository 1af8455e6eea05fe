"""Random networks: layers of every kind on (N, C, 6, 6), stacked in any order, with a second input (N, C, 6, 6)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 6
LAYERS: dict[str, Callable[[int, int], Layer]] = {}
ACTIVATIONS = (F.relu, F.gelu, F.silu, torch.tanh, F.hardswish)


class Layer(nn.Module):
    """(N, C, 6, 6) and a context (N, 16, 6, 6) -> (N, width, 6, 6). `mixes`: normalises over channels."""

    width: int
    needs = 1  # C must be a multiple
    least = 8
    mixes = False

    def __init_subclass__(cls) -> None:
        LAYERS[cls.__name__] = cls


def conv(width: int, out: int, kernel: int = 3, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, padding=kernel // 2, groups=groups)


class Conv(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.conv, self.norm = out, conv(width, out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)), inplace=True)


class Large(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.conv = width, conv(width, width, 7 if out == 8 else 5, width if out == 16 else 1)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return x + F.gelu(self.conv(x))


class Grouped(Layer):
    needs = 4

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.conv = out, conv(width, out, groups=4)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Depthwise(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = 2 * width if out == 24 else width
        self.conv = conv(width, self.width, groups=width)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return self.conv(x).sigmoid()


class Transposed(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.up, self.down = out, nn.ConvTranspose2d(width, out, 2, 2), nn.MaxPool2d(2)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return self.down(self.up(x)).relu()


class Bottleneck(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.inner = width, nn.Sequential(conv(width, out, 1), nn.BatchNorm2d(out), nn.ReLU(True))
        self.outer, self.norm = conv(out, width), nn.BatchNorm2d(width, affine=False)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        y = self.norm(self.outer(self.inner(x)))
        y += x
        return y.relu_()


class Dense(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.conv = width + out, conv(width, out, 1)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return torch.cat([x, F.relu(self.conv(x))], 1)


class Inception(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.a, self.b = 2 * out + width, conv(width, out, 1), conv(width, out, 5)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return torch.cat([self.a(x), F.max_pool2d(x, 3, 1, 1), self.b(x).relu()], 1)


class Branch(Layer):
    needs = 2

    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.conv = width, conv(width // 2, width // 2, 1)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        return torch.cat([self.conv(changed), kept], 1)


class Parts(Layer):
    needs = 8

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.first = width + out, conv(width, width + out, 1)
        self.sizes = [width // 4, width - width // 4, out]

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        a, b, c = self.first(x).split(self.sizes, 1)
        return torch.cat([c.relu(), a, b * 2], 1)


class Fold(Layer):
    needs, least = 4, 16

    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.conv = width // 2, conv(width, width, 1)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, 1)
        return left * right.sigmoid()


class Shuffle(Layer):
    needs = 2

    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Excite(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.down, self.up = width, nn.Linear(width, out), nn.Linear(out, width)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


class Fused(Layer):
    needs = 8

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.heads = width, {8: 1, 16: 2, 24: 4}[out]
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(tokens).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(n, h * w, c)
        return x + self.out(y).transpose(1, 2).reshape(n, c, h, w)


class Manual(Layer):
    needs = 8

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.heads = width, {8: 2, 16: 4, 24: 8}[out]
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.register_buffer("mask", torch.ones(SIZE * SIZE, SIZE * SIZE).tril() == 0)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).mT
        q, k, v = (f(tokens).view(n, h * w, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).masked_fill(self.mask, -1e4)
        y = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        return (tokens + self.out(y)).mT.reshape(n, c, h, w)


class Cross(Layer):
    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.heads = width, 2
        self.q, self.kv, self.out = nn.Linear(width, 16), nn.Linear(16, 32), nn.Linear(16, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q = self.q(x.flatten(2).mT).unflatten(-1, (2, 8)).transpose(1, 2)
        k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.kv(context.flatten(2).mT).chunk(2, -1))
        y = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + y.mT.reshape(n, c, h, w)


class Tokens(Layer):
    mixes = True

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.fc, self.norm = out, nn.Linear(width, out), nn.LayerNorm(out)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.gelu(self.norm(self.fc(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)


class GroupNorm(Layer):
    needs, mixes = 2, True

    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.norm = width, nn.GroupNorm(2, width)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.silu(self.norm(x))


class InstanceNorm(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.norm = width, nn.InstanceNorm2d(width, affine=out == 8)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(x), 0.1)


class Signal(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.conv = out, nn.Conv1d(width, out, 5, padding=2)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return self.conv(x.flatten(2)).tanh().unflatten(2, (SIZE, SIZE))


class Shared(Layer):
    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.fc = width, nn.Linear(width, width)
        self.twin = nn.Linear(width, width, bias=False)
        self.twin.weight = self.fc.weight

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        y = self.fc(x.movedim(1, -1)).relu()
        return (self.twin(y) + self.fc(y)).movedim(-1, 1)


class Padded(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.extra = width + out // 2, out // 4

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, self.extra, self.extra))


class Window(Layer):
    least = 16

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.start = 4 if out == 8 else 0
        self.width = width - 4 if out != 16 else width - 8

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return x[:, self.start : self.start + self.width]


class Scaled(Layer):
    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.factor, self.shift = width, nn.Parameter(torch.randn(width, 1, 1)), nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return torch.where(x > 0, x * self.factor, x * 0.1 + self.shift * 0)


class Einsum(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.weight = out, nn.Parameter(torch.randn(width, out) / width)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return torch.einsum("nchw,cd->ndhw", x, self.weight)


class Stacked(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.a, self.b = out, conv(width, out, 1), conv(width, out, 3)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return torch.stack([self.a(x), self.b(x)], 1).amax(1)


class Recurrent(Layer):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width, self.rnn = out, (nn.LSTM if out == 8 else nn.GRU)(width, out, batch_first=True)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return self.rnn(x.flatten(2).mT)[0].mT.unflatten(2, (SIZE, SIZE))


class Joined(Layer):
    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.conv = width, conv(16, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return x + self.conv(context)


class Rolled(Layer):
    def __init__(self, width: int, _out: int) -> None:
        super().__init__()
        self.width, self.conv = width, conv(width, width, 1)

    def forward(self, x: Tensor, _context: Tensor) -> Tensor:
        return x.roll((1, -1), (2, 3)) + self.conv(x.flip(3))


class RandomNet(nn.Module):
    """Layers by (kind, size) between a stem and a head; two inputs (N, 3, 6, 6) and (N, 16, 6, 6), scores (N, 5)."""

    def __init__(self, kinds: list[tuple[str, int]], activation: int) -> None:
        super().__init__()
        self.stem, self.activation = nn.Conv2d(3, 16, 1), ACTIVATIONS[activation]
        width, layers = 16, []
        for kind, size in kinds:
            layers.append(LAYERS[kind](width, size))
            width = layers[-1].width
        self.layers = nn.ModuleList(layers)
        self.head = nn.Linear(width * 9, 5)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        y = self.activation(self.stem(x))
        for layer in self.layers:
            y = layer(y, context)
        return self.head(F.max_pool2d(y, 2).flatten(1))

    @property
    def mixes(self) -> bool:
        """Whether a normalisation crosses channels: a zeroed channel still counts there."""
        return any(layer.mixes for layer in self.layers)


def fits(kinds: list[tuple[str, int]]) -> bool:
    """Whether every layer can take the width it gets."""
    width = 16
    for kind, size in kinds:
        layer = LAYERS[kind]
        if width % layer.needs or width < layer.least or width > 64:
            return False
        width = layer(width, size).width
    return True
