"""Uniform width scaling and depth truncation: one subnet each time, fine-tuned alone.

Channels are kept by Taylor importance on training images, so both start from more than a random slice. A subnet trains
on the statistics of its batches, and its batch_norm statistics are measured afterwards, as ours are.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from tailorbird.supernet import SuperNet
from tailorbird.supernet.loader import logits
from tailorbird.types import Config
from tests.bench.equal_latency.entrant import Entrant, Judges, judged
from tests.bench.equal_latency.finetune import Trainer

#: Width multipliers below 1.
MULTIPLIERS = (0.25, 0.5, 0.75)
_MOST_DEPTHS = 7

#: Subnets by name, largest first.
Sliced = tuple[tuple[str, Config], ...]


def uniform_widths(net: SuperNet, multipliers: Iterable[float] = MULTIPLIERS) -> Sliced:
    """Every width and number of heads at the choice nearest to the same share of it, largest first."""
    found: dict[Config, str] = {}
    for share in sorted(multipliers, reverse=True):
        sizes = {
            d.name: min(d.choices, key=lambda size, d=d: (abs(size - share * d.size), size))
            for d in (*net.space.width, *net.space.heads)
        }
        config = net.space.canonical(Config.of(sizes))
        if not config.is_full:
            found.setdefault(config, f"width {share:g}")
    return tuple((name, config) for config, name in found.items())


def truncated_depths(net: SuperNet, most: int = _MOST_DEPTHS) -> Sliced:
    """The first layers of every stage, the same share of those that can go, deepest first; at most `most` subnets."""
    longest = max((len(stage.layers) for stage in net.space.stages), default=0)
    found: dict[Config, str] = {}
    for kept in range(longest - 1, -1, -1):
        layers = {stage.name: int(kept * len(stage.layers) / longest + 0.5) for stage in net.space.stages}
        config = net.space.keep_first(layers)
        if not config.is_full:
            found.setdefault(config, "depth " + "-".join(map(str, layers.values())))
    named = [(name, config) for config, name in found.items()]
    if len(named) <= most:
        return tuple(named)
    places = sorted({round(k * (len(named) - 1) / (most - 1)) for k in range(most)})
    return tuple(named[place] for place in places)


def slice_off(
    method: str,
    net: SuperNet,
    name: str,
    config: Config,
    teacher: nn.Module | None,
    trainer: Trainer,
    seconds: float,
    judges: Judges,
) -> Entrant:
    """One subnet fine-tuned within its budget. The shared weights are as before when it returns."""
    before = {key: value.clone() for key, value in net.state_dict().items()}

    def forward(images: Tensor) -> Tensor:
        return logits(net(images, config=config))

    net.train()
    try:
        done = trainer.tune(forward, net.weights.parameters(), seconds, teacher)
        net.eval()
        net.forget_statistics()
        net.recalibrate(config, trainer.recalibration, trainer.recalibration_images)
        subnet = net.extract(config)
    finally:
        net.eval()
        net.load_state_dict(before)
    details = {"sizes": dict(config.sizes), "skipped": list(config.skipped)}
    details |= {"lr": trainer.tuning.lr, "tuned": done.to_json()}
    return judged(method, name, subnet, judges, details)
