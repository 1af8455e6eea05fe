"""The name under which times of subnets are kept: the same for the same work, whatever the weights."""

from __future__ import annotations

import torch
from torch import nn

import tailorbird as tb
from tailorbird.flow.identity import latency_identity


def net(width: int = 16, stride: int = 1, pixels: int = 12) -> tb.SuperNet:
    layers = [nn.Conv2d(3, width, 3, stride=stride), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 4)).eval()
    return tb.elastic(model, (torch.randn(1, 3, pixels, pixels),))


def test_other_weights_take_the_same_time_and_keep_the_name():
    first = net()
    before = latency_identity(first)
    assert latency_identity(net()) == before
    with torch.no_grad():
        for weight in first.parameters():
            weight.mul_(2)
    first.set_orders({})
    assert latency_identity(first) == before


def test_another_width_stride_or_input_is_another_network():
    names = {latency_identity(made) for made in (net(), net(width=24), net(stride=2), net(pixels=16))}
    assert len(names) == 4
