"""Tensor programs of a SuperNet's subnets follow its sizes."""

from __future__ import annotations

import functools
import platform

import pytest
import torch
from torch import nn

from tailorbird.compile.base import CompileTarget
from tailorbird.compile.capture import capture
from tailorbird.compile.tvm.pipeline import import_network, prepare
from tailorbird.compile.tvm.programs import kernel_calls
from tailorbird.profile import KernelTemplate, learn_kernels, plan_kernels
from tailorbird.supernet import elastic

TARGET = CompileTarget("x86_64-linux-gnu", "x86-64-v3")
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the modules are prepared for x86_64")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.inner, self.depthwise = nn.Conv2d(16, 32, 1), nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.outer, self.last = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 3, 1, 1)
        self.head = nn.Linear(16 * 4, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(nn.functional.relu6(self.depthwise(nn.functional.relu6(self.inner(x))))))
        x = torch.relu(x + self.last(x))  # skipped, it leaves a rectifier to the block before
        return self.head(torch.flatten(torch.max_pool2d(x, 2), 1))


def test_the_kernels_of_every_subnet_are_learnt_from_a_few() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = (torch.zeros(1, 3, 8, 8),)
    net = elastic(Net().eval(), x)

    @functools.cache
    def programs(config):
        prepared = prepare(import_network(capture(net.extract(config), x)), TARGET)
        return tuple(call.program for call in kernel_calls(prepared))

    learnt = learn_kernels(net.space, programs)
    assert isinstance(learnt, KernelTemplate)
    unseen = [net.space.sample(seed) for seed in range(500, 506)]
    assert [learnt(config) for config in unseen] == [programs(config) for config in unseen]
    plan = plan_kernels(net.space, learnt)
    assert plan.exact
    assert {program for config in unseen for program in programs(config)} <= set(plan.specs)
