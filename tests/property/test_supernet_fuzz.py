"""Random networks: whatever is put together, the subnets are exact."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo.small_models import randomised

from tailorbird.supernet import elastic
from tailorbird.types import Config


class Step(nn.Module):
    """One random layer on (N, C, 6, 6); `width` is the number of channels it returns."""

    normalises = False

    def __init__(self, kind: str, width: int, out: int) -> None:
        super().__init__()
        self.kind, self.width = kind, width
        half = width // 2
        if kind in {"conv", "grouped", "depthwise"}:
            groups = {"conv": 1, "grouped": 4, "depthwise": width}[kind]
            self.width = width if kind == "depthwise" else out
            self.layer = nn.Conv2d(width, self.width, 3, padding=1, groups=groups)
            self.norm = nn.BatchNorm2d(self.width)
        elif kind == "residual":
            self.layer = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(width)
        elif kind == "dense":
            self.layer = nn.Conv2d(width, out, 1)
            self.width = width + out
        elif kind == "branch":
            self.layer = nn.Conv2d(half, half, 1)
        elif kind == "fold":
            self.width = half
        elif kind == "excite":
            self.layer = nn.Conv2d(width, 8, 1)
            self.up = nn.Conv2d(8, width, 1)
        elif kind == "attention":
            self.layer = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)
        elif kind == "tokens":
            self.layer = nn.Linear(width, out)
            self.width = out
            self.normalises = True
            self.norm = nn.LayerNorm(out)
        elif kind == "groupnorm":
            self.normalises = True
            self.norm = nn.GroupNorm(2, width)
        elif kind == "pad":
            self.width = width + 8
        elif kind == "window":
            self.width = width - 4
        elif kind == "scale":
            self.factor = nn.Parameter(torch.randn(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        match self.kind:
            case "conv" | "grouped" | "depthwise":
                return F.relu(self.norm(self.layer(x)))
            case "residual":
                return x + F.relu(self.norm(self.layer(x)))
            case "dense":
                return torch.cat([x, F.relu(self.layer(x))], 1)
            case "branch":
                kept, changed = x.chunk(2, 1)
                return torch.cat([self.layer(changed), kept], 1)
            case "fold":
                left, right = x.chunk(2, 1)
                return left + right
            case "shuffle":
                return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
            case "excite":
                return x * torch.sigmoid(self.up(F.relu(self.layer(x.mean((2, 3), keepdim=True)))))
            case "attention":
                tokens = x.flatten(2).transpose(1, 2)
                qkv = self.layer(tokens).reshape(n, h * w, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
                y = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2]).transpose(1, 2).reshape(n, h * w, c)
                return x + self.out(y).transpose(1, 2).reshape(n, c, h, w)
            case "tokens":
                y = F.gelu(self.norm(self.layer(x.permute(0, 2, 3, 1))))
                return y.permute(0, 3, 1, 2)
            case "groupnorm":
                return F.silu(self.norm(x))
            case "pad":
                return F.pad(x, (0, 0, 0, 0, 4, 4))
            case "window":
                return x[:, 4:]
            case _:
                return x * self.factor


class Stack(nn.Module):
    def __init__(self, kinds: list[tuple[str, int]]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 1)
        steps, width = [], 16
        for kind, out in kinds:
            steps.append(Step(kind, width, out))
            width = steps[-1].width
        self.steps = nn.Sequential(*steps)
        self.head = nn.Linear(width * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.steps(F.relu(self.stem(x))), 2)
        return self.head(x.flatten(1))


KINDS = (
    *("conv", "grouped", "depthwise", "residual", "dense", "branch", "fold", "shuffle"),
    *("excite", "attention", "tokens", "groupnorm", "pad", "window", "scale"),
)
STACKS = st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([8, 16, 24])), min_size=1, max_size=5).filter(
    lambda kinds: sum(kind == "fold" for kind, _ in kinds) < 2
)


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(kinds=STACKS, seed=st.integers(0, 10**6))
def test_subnets_of_random_networks_are_exact(kinds: list[tuple[str, int]], seed: int) -> None:
    torch.set_num_threads(1)
    if not _fits(kinds):
        return
    model = randomised(Stack(kinds), seed).eval()
    net = elastic(model, (torch.randn(1, 3, 6, 6),), divisor=2)
    x = torch.randn(3, 3, 6, 6)
    assert all("whole factors" in op for op in net.report.unknown_ops)  # a cut through a norm's group is pinned
    assert net.report.any_batch
    with torch.no_grad():
        assert torch.equal(model(x), net(x))
        for config in (net.space.smallest(), net.space.sample(seed), net.space.sample(seed + 1)):
            y = net(x, config=config)
            sub = net.extract(config)
            assert torch.equal(y, sub(x))
            assert net.params(config) == sum(p.numel() for p in sub.parameters())
            assert net.params(config) <= net.params()
            assert net.macs(config) <= net.macs()
            if not any(step.normalises for step in model.steps):
                _assert_equals_zeroed(kinds, net, Config.of(dict(config.sizes)), x)


def _fits(kinds: list[tuple[str, int]]) -> bool:
    """Whether widths stay even and large enough for every step."""
    width = 16
    for kind, out in kinds:
        if width % 8 and kind in {"grouped", "attention", "groupnorm", "shuffle", "branch", "fold", "window"}:
            return False
        if kind == "window" and width < 16:
            return False
        width = Step(kind, width, out).width
    return True


def _assert_equals_zeroed(kinds: list[tuple[str, int]], net: object, config: Config, x: Tensor) -> None:
    fresh = Stack(kinds).eval()
    fresh.load_state_dict(net.state_dict())
    stored = dict(fresh.named_parameters())
    selection = net.selection(net.space.canonical(config))
    for name, dims in net.graph.stored.items():
        for axis, kept in selection.cuts(dims):
            if name in stored:
                mask = torch.zeros(stored[name].shape[axis]).index_fill_(0, kept, 1.0)
                shape = [1] * stored[name].ndim
                shape[axis] = -1
                stored[name].mul_(mask.reshape(shape))
    torch.testing.assert_close(fresh(x), net(x, config=config), rtol=1e-4, atol=1e-4)
