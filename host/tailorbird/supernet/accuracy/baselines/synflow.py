"""Synflow: sum of |w x dR/dw| over the weights of convolutions and linear layers, R = 1^T f(1; |w|).

Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS 2020,
equations 2 and 3; taken as a score of a whole network by Abdelfattah et al., "Zero-cost proxies for lightweight NAS",
ICLR 2021, section 3.1. As in the latter's code: every parameter made absolute, an input of ones, double precision,
batch_norm left out (it would hide the flow), one sample.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from tailorbird.graph import Inputs
from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.baselines.subnet import bypass, call, layer_weights, to_double, trainable
from tailorbird.supernet.accuracy.evaluation import Evaluations
from tailorbird.supernet.loader import logits
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_NORMS = ("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm")


def synflow(net: SuperNet, anchors: Evaluations | None = None) -> Scored:
    """Ranks by the logarithm of synflow, which spans many orders of magnitude; with anchors, predicts accuracy.

    The published networks have no norm but batch_norm; others are left out as well, for the same reason. Inputs that
    are no numbers with a point, such as tokens, are ones too. It needs no data.
    """
    return Scored("synflow", net.space, lambda config: _score(net, config), anchors)


def _score(net: SuperNet, config: Config) -> float:
    subnet = trainable(net, config)
    bypass(subnet, _NORMS)
    to_double(subnet)
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.abs_()
    answer = logits(call(subnet, _ones(net)))
    answer.sum().backward()
    weights = layer_weights(subnet).values()
    flow = math.fsum(float((w.detach() * w.grad).abs().sum()) for w in weights if w.grad is not None)
    return math.log10(flow) if flow > 0 else -math.inf


def _ones(net: SuperNet) -> Inputs:
    given = net.example.map(lambda x: x.to(net.device))
    if net.graph.batch_pin is None:
        given = given.map_batched(lambda x: x[:1])
    return given.map(lambda x: torch.ones_like(x, dtype=torch.float64 if x.is_floating_point() else x.dtype))
