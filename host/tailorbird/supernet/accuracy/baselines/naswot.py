"""NASWOT: how differently a network's rectifiers answer to different samples.

Mellor et al., "Neural architecture search without training", ICML 2021, section 3: c_i is the binary code of sample i,
which rectifiers its activation passes; K_ij = N_A - Hamming(c_i, c_j); the score is log |det K|. As in the authors'
code: one batch of 128 samples in train mode, K summed over all rectifiers of the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from tailorbird.errors import UsageError
from tailorbird.graph import op_name
from tailorbird.supernet.accuracy.baselines.predictor import Scored
from tailorbird.supernet.accuracy.baselines.subnet import joined, trainable
from tailorbird.supernet.accuracy.evaluation import Evaluations
from tailorbird.supernet.loader import Batch
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_RECTIFIERS = frozenset({"relu", "relu6", "leaky_relu", "prelu", "rrelu", "hardtanh", "threshold"})
_SMOOTH = frozenset({"gelu", "silu", "elu", "celu", "selu", "mish", "hardswish", "softplus"})


def naswot(net: SuperNet, loader: Iterable[Any], anchors: Evaluations | None = None, *, images: int = 128) -> Scored:
    """Ranks by NASWOT on the first samples of a loader, labels not read; with anchors, predicts accuracy.

    A network without rectifiers is scored by its smooth ones (GELU, SiLU, ...), which the publication does not treat:
    the code is again the sign of their input. Where two samples have the same code, such as samples that repeat, or
    where a subnet has no rectifier left, the score is minus infinity.

    Raises: UsageError for fewer than two samples or no rectifier.
    """
    batch = joined(loader, net.device, images)
    if batch is None or batch.size < 2:
        raise UsageError("NASWOT compares samples", why="the loader gave fewer than two", fix="pass a loader with data")
    present = {_operator(node) for node in net.graph.graph.nodes}
    kinds = _RECTIFIERS & present or _SMOOTH & present
    if not kinds:
        raise UsageError(
            "NASWOT needs rectifiers",
            why=f"{net.report.model} has none of {', '.join(sorted(_RECTIFIERS | _SMOOTH))}",
            fix="leave this predictor out",
        )
    return Scored("naswot", net.space, lambda config: _score(net, config, batch, kinds), anchors)


def _score(net: SuperNet, config: Config, batch: Batch, kinds: frozenset[str]) -> float:
    codes = _Codes(trainable(net, config), batch.size, kinds)
    with torch.no_grad():
        codes.run(*net.bound(batch.inputs).leaves)
    return float(torch.linalg.slogdet(codes.kernel).logabsdet)


class _Codes(Interpreter):
    """Runs a network and sums up its kernel (samples, samples): how many rectifiers answer alike."""

    def __init__(self, subnet: GraphModule, samples: int, kinds: frozenset[str]) -> None:
        super().__init__(subnet)
        self.kernel = torch.zeros(samples, samples, dtype=torch.float64)
        self._samples, self._kinds = samples, kinds

    def run_node(self, n: Node) -> Any:
        """As usual, but a rectifier's input is read first (it may work in place)."""
        if _operator(n) in self._kinds and isinstance(n.args[0], Node):
            self._add(self.map_nodes_to_values(n.args[0], n))
        return super().run_node(n)

    def _add(self, x: Any) -> None:
        if isinstance(x, Tensor) and x.ndim and len(x) == self._samples:
            code = (x.flatten(1) > 0).double()
            self.kernel += (code @ code.T + (1 - code) @ (1 - code).T).cpu()


def _operator(node: Node) -> str:
    return op_name(node).rstrip("_") if node.op == "call_function" else ""
