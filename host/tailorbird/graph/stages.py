"""Stages: runs of residual blocks on one stream, of which the first few can be kept."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch.fx import Node

from tailorbird.graph.algebra import Dims
from tailorbird.graph.blocks import Block, unique


@dataclass(frozen=True, slots=True)
class Stage:
    """A maximal run of residual blocks between which the stream keeps its dims.

    layers: in order, each the names of its blocks: one for a convolutional block, two for a transformer layer
    (attention and feed-forward), three for one with cross-attention.
    """

    name: str
    layers: tuple[tuple[str, ...], ...]

    @property
    def blocks(self) -> tuple[str, ...]:
        """Names of all blocks, in order."""
        return tuple(itertools.chain.from_iterable(self.layers))


def find_stages(blocks: Sequence[Block], dims: Mapping[Node, Dims]) -> tuple[Stage, ...]:
    """All stages in graph order; blocks inside another block form stages of their own."""
    outer = {block.name: _innermost(block, blocks) for block in blocks}
    levels: dict[str | None, list[Block]] = {}
    for block in blocks:
        levels.setdefault(outer[block.name], []).append(block)
    runs: list[list[str]] = []
    for level in levels.values():
        for _, run in itertools.groupby(level, key=lambda block: dims[block.add]):
            runs.append([block.name for block in run])
    first = {block.name: place for place, block in enumerate(blocks)}
    found = [_stage(run) for run in sorted(runs, key=lambda run: first[run[0]])]
    return tuple(Stage(name, layers) for name, (_, layers) in zip(unique(n for n, _ in found), found, strict=True))


def without(stages: Sequence[Stage], offered: Sequence[str]) -> tuple[Stage, ...]:
    """Stages with only the blocks that are offered."""
    kept = (
        Stage(
            stage.name, tuple(layer for blocks in stage.layers if (layer := tuple(b for b in blocks if b in offered)))
        )
        for stage in stages
    )
    return tuple(stage for stage in kept if stage.layers)


def _innermost(block: Block, blocks: Sequence[Block]) -> str | None:
    holders = [other for other in blocks if block.add in other.body]
    return min(holders, key=lambda other: len(other.body)).name if holders else None


def _stage(run: list[str]) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Name and layers of a run: its blocks share a module path, and the module below it tells its layers apart."""
    paths = [name.split(".") for name in run]
    shared = [parts[0] for parts in itertools.takewhile(lambda p: len(set(p)) == 1, zip(*paths, strict=False))]
    if len(run) == 1:
        shared = shared[:-1]
    keys = [path[len(shared)] if len(path) > len(shared) else "" for path in paths]
    if len(run) > 1 and shared and shared[-1].isdigit() and not all(key.isdigit() for key in keys):
        shared, keys = shared[:-1], [shared[-1]] * len(run)  # one layer, whose sublayers are named: `blocks.0.attn`
    layers = tuple(
        tuple(name for _, name in group) for _, group in itertools.groupby(zip(keys, run, strict=True), _key)
    )
    return ".".join(shared) or (run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}"), layers


def _key(pair: tuple[str, str]) -> str:
    return pair[0]
