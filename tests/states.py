"""What training made of a SuperNet, wherever it is kept."""

from __future__ import annotations

from torch import Tensor

from tailorbird.supernet import SuperNet


def trained(net: SuperNet) -> dict[str, Tensor]:
    """Copies of the weights that subnets are trained in, by the user's names: those beside the full network's where it
    was kept as it is, and while a run holds them, those of the network itself."""
    found = dict(net.state_dict()) | ({} if net.learnt is None else net.learnt.named())
    return {name: value.detach().clone() for name, value in found.items()}
