"""Vision networks as users write them by hand, each with a structure that breaks assumptions about chains of layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Ronneberger et al., 2015: skip connections across the whole network, concatenated."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.down1 = nn.Sequential(conv_bn(3, width), conv_bn(width, width))
        self.down2 = nn.Sequential(conv_bn(width, 2 * width), conv_bn(2 * width, 2 * width))
        self.bottom = nn.Sequential(conv_bn(2 * width, 4 * width), conv_bn(4 * width, 4 * width))
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.merge2 = nn.Sequential(conv_bn(4 * width, 2 * width), conv_bn(2 * width, 2 * width))
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.merge1 = nn.Sequential(conv_bn(2 * width, width), conv_bn(width, width))
        self.mask = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(F.max_pool2d(one, 2))
        y = self.up2(self.bottom(F.max_pool2d(two, 2)))
        y = self.up1(self.merge2(torch.cat([two, y], 1)))
        return self.mask(self.merge1(torch.cat([one, y], 1)))


class ResUNet(nn.Module):
    """The same with bilinear upsampling to the size of the skip connection, additions and GroupNorm."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.GroupNorm(4, width)
        self.block = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1))
        self.down = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.deep = nn.Sequential(nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.GroupNorm(8, 2 * width), nn.SiLU())
        self.lateral = nn.Conv2d(2 * width, width, 1)
        self.out = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(self.norm(x))
        y = self.down(x)
        y = y + self.deep(y)
        y = F.interpolate(self.lateral(y), size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.out(F.silu(x + y))


class FeaturePyramid(nn.Module):
    """Lin et al., 2017: top-down additions over three scales, a list of outputs."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        sizes = (width, 2 * width, 4 * width)
        self.stem = conv_bn(3, width, 3, 2)
        self.stages = nn.ModuleList(
            conv_bn(i, o, 3, s) for i, o, s in zip((width, *sizes), sizes, (1, 2, 2), strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(size, 32, 1) for size in sizes)
        self.smooth = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1) for _ in sizes)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        y, levels = None, []
        for feature, lateral, smooth in reversed(list(zip(features, self.lateral, self.smooth, strict=True))):
            z = lateral(feature)
            y = z if y is None else z + F.interpolate(y, scale_factor=2, mode="nearest")
            levels.append(smooth(y))
        return levels


class Inception(nn.Module):
    """Szegedy et al., 2015: four branches, concatenated, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 24)
        self.mixed = nn.ModuleList(self._block(size) for size in (24, 64))
        self.fc = nn.Linear(64, 10)

    @staticmethod
    def _block(inputs: int) -> nn.ModuleList:
        return nn.ModuleList(
            [
                conv_bn(inputs, 16, 1),
                nn.Sequential(conv_bn(inputs, 16, 1), conv_bn(16, 24, 3)),
                nn.Sequential(conv_bn(inputs, 8, 1), conv_bn(8, 16, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, 8, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.mixed:
            x = torch.cat([branch(x) for branch in block], dim=1)
        return self.fc(x.amax((2, 3)))


class MixNet(nn.Module):
    """Tan and Le, 2019: channels are split, each part has a depthwise convolution with another kernel."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem = conv_bn(3, width, 3, 2)
        self.parts = (16, 16, 16)
        self.mix = nn.ModuleList(conv_bn(p, p, k, 1, p) for p, k in zip(self.parts, (3, 5, 7), strict=True))
        self.point = nn.Conv2d(width, width, 1)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.cat([mix(part) for mix, part in zip(self.mix, torch.split(x, self.parts, 1), strict=True)], 1)
        return self.fc((x + self.point(y)).mean((2, 3)))


class Yolo(nn.Module):
    """Multi-scale detector: cross-stage partial blocks, spatial pyramid pooling, three decoded outputs."""

    def __init__(self, width: int = 16, anchors: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.anchors, self.values = anchors, classes + 5
        self.stem = conv_bn(3, width, 3, 2)
        self.partial = nn.ModuleList(self._partial(width << i) for i in range(3))
        self.down = nn.ModuleList(conv_bn(width << i, width << (i + 1), 3, 2) for i in range(2))
        self.pyramid = conv_bn(4 * (width << 2), width << 2, 1)
        self.reduce = conv_bn(width << 2, width << 1, 1)
        self.merge = conv_bn(width << 2, width << 1)
        self.heads = nn.ModuleList(nn.Conv2d(width << i, anchors * self.values, 1) for i in (1, 2))

    @staticmethod
    def _partial(size: int) -> nn.ModuleDict:
        half = size // 2
        return nn.ModuleDict(
            {
                "a": conv_bn(size, half, 1),
                "b": conv_bn(size, half, 1),
                "m": nn.Sequential(conv_bn(half, half, 1), conv_bn(half, half)),
                "c": conv_bn(size, size, 1),
            }
        )

    def _run(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        a = block["a"](x)
        return block["c"](torch.cat((a + block["m"](a), block["b"](x)), 1))

    def _decode(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        x = x.view(n, self.anchors, self.values, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
        xy, size, scores = x.split((2, 2, self.values - 4), -1)
        return torch.cat((xy * 2 - 0.5, (size * 2) ** 2, scores), -1).view(n, -1, self.values)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        x = self._run(self.partial[0], self.stem(x))
        middle = self._run(self.partial[1], self.down[0](x))
        deep = self._run(self.partial[2], self.down[1](middle))
        pools = [deep, *(F.max_pool2d(deep, k, 1, k // 2) for k in (3, 5, 7))]
        deep = self.pyramid(torch.cat(pools, 1))
        up = F.interpolate(self.reduce(deep), scale_factor=2.0)
        outputs = (self.heads[0](self.merge(torch.cat((up, middle), 1))), self.heads[1](deep))
        return torch.cat([self._decode(y) for y in outputs], 1), outputs


class Generator(nn.Module):
    """DCGAN (Radford et al., 2016): transposed convolutions from a vector."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.project = nn.Linear(20, 4 * width * 16)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1),
            nn.InstanceNorm2d(width, affine=True),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 3, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(self.project(z).view(z.shape[0], -1, 4, 4))


class SuperResolution(nn.Module):
    """EDSR (Lim et al., 2017): scaled residual blocks without normalisation, pixel shuffle, a global skip."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(3)
        )
        self.tail = nn.Conv2d(width, width, 3, padding=1)
        self.up = nn.Conv2d(width, 4 * width, 3, padding=1)
        self.out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        y = x
        for block in self.blocks:
            y = y + 0.1 * block(y)
        return self.out(F.pixel_shuffle(self.up(x + self.tail(y)), 2))


class Focus(nn.Module):
    """Space to depth by strided slices, channels gated by half of them (GLU), an in-place multiply."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = conv_bn(12, width)
        self.gate = nn.Conv2d(width, 2 * width, 1)
        self.scale = nn.Parameter(torch.ones(1, width, 1, 1))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)
        x = self.stem(x)
        y = F.glu(self.gate(x), dim=1)
        y *= self.scale
        return self.fc(F.adaptive_avg_pool2d(x + y, 1).flatten(1))


class HighResolution(nn.Module):
    """HRNet-like (Wang et al., 2019): two resolutions exchange their features and stay."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = conv_bn(3, width, 3, 2)
        self.low = conv_bn(width, 2 * width, 3, 2)
        self.high1, self.low1 = conv_bn(width, width), conv_bn(2 * width, 2 * width)
        self.to_low = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.to_high = nn.Conv2d(2 * width, width, 1)
        self.out = nn.Conv2d(3 * width, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.low(high)
        high, low = high + self.high1(high), low + self.low1(low)
        up = F.interpolate(self.to_high(low), scale_factor=2, mode="bilinear", align_corners=True)
        high, low = F.relu(high + up), F.relu(low + self.to_low(high))
        low = F.interpolate(low, size=high.shape[2:], mode="nearest")
        return self.out(torch.cat((high, low), 1))


class LinkedConcats(nn.Module):
    """cat(a, b) + cat(c, d): the parts must shrink together though they never meet."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(3, 16), conv_bn(3, 32)
        self.c, self.d = conv_bn(3, 16), conv_bn(3, 32)
        self.out = nn.Conv2d(48, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat((self.a(x), self.b(x)), 1) + torch.cat((self.c(x), self.d(x)), 1)).mean((2, 3))


class SelectiveKernel(nn.Module):
    """Stacked branches weighted by a softmax over them (Li et al., 2019), einsum at the end."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = conv_bn(3, width)
        self.branches = nn.ModuleList(conv_bn(width, width, k, 1, 4) for k in (3, 5))
        self.squeeze = nn.Linear(width, 16)
        self.excite = nn.ModuleList(nn.Linear(16, width) for _ in self.branches)
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = torch.stack([branch(x) for branch in self.branches], 1)
        z = F.relu(self.squeeze(y.sum(1).mean((-2, -1))))
        weights = torch.stack([excite(z) for excite in self.excite], 1).softmax(1)
        return self.fc(torch.einsum("nbchw,nbc->nchw", y, weights).mean((2, 3)))
