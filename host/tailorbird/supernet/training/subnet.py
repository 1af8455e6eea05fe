"""Fine-tune: train one subnet alone, with its own copy of the weights, on the labels and the full network's answers.

The subnet becomes a SuperNet without dimensions, so that `fit` trains it: the same loop, checkpoints and protection.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.fx import GraphModule

from tailorbird.errors import UsageError
from tailorbird.supernet.training.fit import FitResult, fit
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

#: Half labels, half the full network's answers (Cai et al., "Once-for-All", ICLR 2020, section 4.1).
SOFT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class TunedSubnet:
    """A subnet after its fine-tune: a stand-alone module in eval mode, as `net.extract(config)` gives it.

    fit: what the training did; in it "the full network" is the subnet. `net.adopt(config, module)` makes the SuperNet
    use these weights for the configuration.
    """

    config: Config
    module: GraphModule
    fit: FitResult

    @property
    def before(self) -> float | None:
        """Score of the subnet before, None without validation."""
        return self.fit.full_before

    @property
    def after(self) -> float | None:
        """Score of the subnet now; never below `before`."""
        return self.fit.full_after


def fine_tune(net: SuperNet, config: Config, loader: Iterable[Any], **options: Any) -> TunedSubnet:
    """Train a stand-alone copy of a subnet; `net` is not changed.

    Learns from the labels and, to one half, from the frozen full network (`soft`). Norms use batch statistics and
    keep running ones of their own. options: those of `fit`; with `validate` the result is the best of the start, the
    last and the averaged weights. Recalibrate the configuration first: its statistics are what training starts from.
    Inputs may have all sizes that `net` takes.

    Raises: UsageError for the full configuration, which `fit` trains; what `fit` raises.
    """
    from tailorbird.supernet.any_size import extract_any_size
    from tailorbird.supernet.elastic import elastic

    chosen = net.space.canonical(config)
    if chosen.is_full:
        raise UsageError("the full network is no subnet", fix="train it with net.fit(loader)")
    known: dict[str, Any] = {"soft": SOFT, "keep": "best", "max_drop": 1.0, "teacher": extract_any_size(net, Config())}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, on copies of a GraphModule
        one = elastic(extract_any_size(net, chosen), net.example.args, net.example.kwargs, only=())
    settings: dict[str, Any] = {**known, **options, "n_random": 0}
    done = fit(one, loader, **settings)
    module = net.extract(chosen)
    module.load_state_dict(one.state_dict())
    return TunedSubnet(chosen, module, done)
