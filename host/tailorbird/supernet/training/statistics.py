"""Statistics: the running statistics of the full network's batch_norms, found anew.

Between two sets of weights the statistics are not between theirs: activations of mixed weights vary less (Jordan et
al., "REPAIR", ICLR 2023, section 3). On a ResNet-20 half way between the start and the end of a run, statistics of
these very weights are worth up to eight tenths of a point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from tailorbird.supernet.loader import Batch
from tailorbird.supernet.training.ranks import Ranks

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_SAMPLES = 2048
_BYTES = 2**28  # of inputs kept at most, for large images


class Statistics:
    """Finds running statistics on training batches, which are read when they are first needed."""

    def __init__(self, net: SuperNet, read: Callable[[], Iterable[Batch]], ranks: Ranks) -> None:
        self._net, self._read, self._ranks = net, read, ranks
        self._batches: list[Batch] | None = None

    def refresh(self) -> None:
        """Replace the running statistics by the mean over training batches. Norms that the user froze stay as they are.

        What else a forward pass in train mode moves, such as the norms' count of batches, stays too.
        """
        net = self._net
        was_training = net.training
        net.train()
        norms = [m for m in net.weights.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
        net.eval()
        batches = self._collected() if norms else []
        if batches:
            self._measure(norms, batches)
        net.train(was_training)

    def _measure(self, norms: list[_BatchNorm], batches: list[Batch]) -> None:
        momenta, counts = [norm.momentum for norm in norms], [norm.num_batches_tracked for norm in norms]
        kept = [None if count is None else count.clone() for count in counts]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for the mean over all batches
            norm.train()
        with torch.no_grad():
            for batch in batches:
                inputs = self._net.bound(batch.inputs)
                self._net.weights(*inputs.args, **inputs.kwargs)
            for norm, momentum, count, before in zip(norms, momenta, counts, kept, strict=True):
                norm.momentum = momentum
                if count is not None and before is not None:
                    count.copy_(before)
        running = [x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None]
        self._ranks.average(running, float(sum(batch.size for batch in batches)), [])

    def _collected(self) -> list[Batch]:
        if self._batches is None:
            self._batches = []
            samples = held = 0
            for batch in self._read():
                mine, _ = self._ranks.share(batch)
                self._batches.append(Batch(mine.inputs))
                samples += batch.size
                held += sum(x.numel() * x.element_size() for x in mine.inputs.tensors)
                if samples >= _SAMPLES or held >= _BYTES:
                    break
        return self._batches
