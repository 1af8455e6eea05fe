"""A captured network that follows train() and eval() computes what the user's own module does in that mode."""

from __future__ import annotations

import torch
from torch import nn

from tailorbird.graph import follow_mode
from tailorbird.supernet import elastic


def test_a_captured_network_trains_as_the_module_it_was_captured_from() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, momentum=0.3), nn.ReLU(), nn.Dropout(0.4), nn.Flatten(), nn.Linear(288, 3)
    )
    x = torch.randn(4, 1, 8, 8)
    net = elastic(model, (x[:1],))
    plain, switched = net.extract(), follow_mode(net.extract())
    assert switched.state_dict().keys() == plain.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(switched(x), plain(x))
    outputs = []
    for module in (model.train(), switched.train()):
        torch.manual_seed(1)
        outputs.append(module(x))
        outputs[-1].square().sum().backward()
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], plain(x))
    found = dict(switched.named_parameters()) | dict(switched.named_buffers())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, found[name].grad)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.equal(model.get_buffer(name), found[name])
    with torch.no_grad():
        assert torch.equal(switched.eval()(x), model.eval()(x))
