"""Spread subnets: which to evaluate so that scores become accuracies, whatever the score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailorbird.supernet.accuracy.anchors import choose_anchors
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet


def spread_subnets(net: SuperNet, count: int, seed: int) -> list[Config]:
    """The full network, the smallest subnet, and others spread evenly over MACs; at most `count`, all distinct."""
    return [Config(), *choose_anchors(net.space, lambda config: -net.macs(config), count - 1, seed)][:count]
