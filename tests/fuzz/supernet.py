"""Fuzz the SuperNet compiler: hypothesis builds random networks, every subnet drawn from them must be exact.

    python -m tests.fuzz.supernet --examples 2000 --processes 2

Prints how many networks and subnets were checked; ends with 1 and the smallest failing network otherwise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from torch import Tensor, nn

from tailorbird.supernet import SuperNet, elastic
from tailorbird.types import Config
from tests.zoo.random_nets import ACTIVATIONS, LAYERS, SIZE, RandomNet, fits
from tests.zoo.small_models import randomised

Kinds = list[tuple[str, int]]

LAYER = st.tuples(st.sampled_from(sorted(LAYERS)), st.sampled_from([8, 16, 24]))
NETS = st.lists(LAYER, min_size=1, max_size=4).filter(fits)
EVERY_GRADIENT, EVERY_EXPORT = 4, 8  # one network in so many is also trained, also exported again


def inputs(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 3, SIZE, SIZE), torch.randn(batch, 16, SIZE, SIZE)


def check(kinds: Kinds, activation: int, seed: int) -> int:
    """P1 to P6 and P9 on one random network. Returns how many subnets were compared."""
    torch.manual_seed(seed)
    model = randomised(RandomNet(kinds, activation), seed).eval()
    net = elastic(model, inputs(1), divisor=2)
    x = inputs(3)
    configs = [net.space.smallest(), net.space.sample(seed), net.space.sample(seed + 1)]
    with torch.no_grad():
        assert net.report.any_batch, net.report.notes
        assert torch.equal(model(*x), net(*x)), "the full configuration is not the network"
        for config in configs:
            sub = net.extract(config)
            assert torch.equal(net(*x, config=config), sub(*x)), config
            assert net.params(config) == sum(p.numel() for p in sub.parameters()) <= net.params(), config
            assert net.macs(config) <= net.macs(), config
            if not model.mixes:
                sizes = {d.name: d for d in net.space.dimensions if d.kind in {"width", "heads"}}
                widths = Config.of({name: kept for name, kept in config.sizes if name in sizes})
                oracle = zeroed(net, RandomNet(kinds, activation), widths)
                torch.testing.assert_close(oracle(*x), net(*x, config=widths), rtol=1e-3, atol=1e-4)
    if seed % EVERY_GRADIENT == 0:
        check_gradients(net, configs[1], x)
    if seed % EVERY_EXPORT == 0:
        again = torch.export.export(net.extract(configs[1]), x, strict=False).module()
        assert torch.equal(again(*x), net(*x, config=configs[1])), "exported again, it differs"
    return len(configs)


def zeroed(net: SuperNet, fresh: nn.Module, config: Config) -> nn.Module:
    """The user's network with every dropped index set to zero in every parameter that stores it."""
    fresh.load_state_dict(net.state_dict())
    stored = dict(fresh.named_parameters())
    selection = net.selection(net.space.canonical(config))
    for name, dims in net.graph.stored.items():
        for axis, kept in selection.cuts(dims):
            if name in stored:
                dropped = torch.ones(stored[name].shape[axis], dtype=torch.bool).index_fill_(0, kept, False)
                stored[name].index_fill_(axis, dropped.nonzero().flatten(), 0.0)
    return fresh.eval()


def check_gradients(net: SuperNet, config: Config, x: tuple[Tensor, ...]) -> None:
    """Gradients in the shared weights are those of the extracted subnet, and zero elsewhere."""
    sub = net.extract(config)
    net.zero_grad(set_to_none=True)
    for answer in (net(*x, config=config), sub(*x)):
        answer.square().sum().backward()
    owned = dict(sub.named_parameters())
    selection = net.selection(net.space.canonical(config))
    for name in net.graph.parameters:
        found = net.tensor(name).grad
        expected = owned[name].grad if name in owned else None
        assert (found is None) == (expected is None), name
        if found is None or expected is None:
            continue
        for axis, kept in reversed(selection.cuts(net.graph.stored[name])):
            shape = [*expected.shape[:axis], found.shape[axis], *expected.shape[axis + 1 :]]
            expected = torch.zeros(shape).index_copy_(axis, kept, expected)
        assert torch.equal(found, expected), f"gradient of {name}"
    net.zero_grad(set_to_none=True)


def campaign(examples: int, seed: int) -> tuple[int, int, str]:
    """Check random networks until one fails. Returns networks and subnets checked, and the failure or nothing."""
    torch.set_num_threads(1)
    networks = subnets = 0

    @seeded(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(kinds=NETS, activation=st.integers(0, len(ACTIVATIONS) - 1), seed=st.integers(0, 10**6))
    def run(kinds: Kinds, activation: int, seed: int) -> None:
        nonlocal networks, subnets
        subnets += check(kinds, activation, seed)
        networks += 1

    try:
        run()
    except Exception:
        return networks, subnets, traceback.format_exc()
    return networks, subnets, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    shares = [len(range(i, options.examples, options.processes)) for i in range(options.processes)]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = pool.starmap(campaign, [(share, options.seed + i) for i, share in enumerate(shares)])
    for _, _, failure in found:
        sys.stderr.write(failure)
    networks, subnets = sum(n for n, _, _ in found), sum(s for _, s, _ in found)
    failures = sum(bool(failure) for _, _, failure in found)
    seconds = time.monotonic() - begin
    sys.stdout.write(f"{networks} random networks, {subnets} subnets checked in {seconds:.0f} s, {failures} failures\n")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
