"""Features of architectures in the published tables: one-hot operators, and counts that no device enters into.

The counts are those that tailorbird.predict.features takes from a graph: operators, arithmetic, the longest path,
launches, per stage where the space has stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray

# NAS-Bench-201: edges of the cell as (from, to), in the order of its strings; operators none, skip, 1x1, 3x3, pool.
_EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_NB201_ARITHMETIC = np.array([0.0, 0.0, 1 / 9, 1.0, 0.02])
_FIRST_COMPUTING = 2

# FBNet: channels, repeats and stride of each stage.
_FBNET_STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))

# Once-for-all MobileNetV3: channels and resolution of the five stages of up to four blocks each.
_OFA_CHANNELS, _OFA_SIZES, _OFA_BLOCKS = (24, 40, 80, 112, 160), (56, 28, 14, 14, 7), 4


def of(space: str, genes: Array, operators: Sequence[str]) -> tuple[Array, Array]:
    """One-hot (N, P) and structure (N, Q) of architectures, genes (N, G)."""
    if space.startswith("nb201"):
        return _one_hot(genes, 5), np.array([_nb201(cell) for cell in genes])
    if space == "fbnet":
        return _one_hot(genes, len(operators)), _fbnet(genes, operators)
    if space == "ofa":
        return _ofa(genes)
    raise KeyError(space)


def _one_hot(genes: Array, choices: int) -> Array:
    return np.eye(choices)[genes].reshape(len(genes), -1)


def _nb201(cell: Array) -> list[float]:
    """Of one cell: operators that an output depends on, all operators, longest paths, arithmetic, additions."""
    present = [edge for edge in range(6) if cell[edge] != 0]
    reached, needed = {0}, {3}
    for edge in present:  # edges are sorted by their end
        if _EDGES[edge][0] in reached:
            reached.add(_EDGES[edge][1])
    for edge in sorted(present, key=lambda edge: -_EDGES[edge][0]):
        if _EDGES[edge][1] in needed:
            needed.add(_EDGES[edge][0])
    live = [edge for edge in present if _EDGES[edge][0] in reached and _EDGES[edge][1] in needed]
    launches, work = [0.0] * 4, [0.0] * 4
    for node in (1, 2, 3):
        into = [edge for edge in live if _EDGES[edge][1] == node]
        launches[node] = max((launches[_EDGES[e][0]] + (cell[e] >= _FIRST_COMPUTING) for e in into), default=0.0)
        work[node] = max((work[_EDGES[e][0]] + _NB201_ARITHMETIC[cell[e]] for e in into), default=0.0)
    inputs = [sum(_EDGES[edge][1] == node for edge in live) for node in (1, 2, 3)]
    return [
        *np.bincount(cell[live], minlength=5)[1:],
        *np.bincount(cell, minlength=5),
        launches[3],
        work[3],
        float(_NB201_ARITHMETIC[cell[live]].sum()),
        float(_NB201_ARITHMETIC[cell].sum()),
        sum(max(0, count - 1) for count in inputs),
        len(live),
        float((cell[live] >= _FIRST_COMPUTING).sum()),
        float(3 in reached),
    ]


def _fbnet(genes: Array, operators: Sequence[str]) -> Array:
    """Operator counts; launches and arithmetic in all and per stage."""
    work, launches, stages = [], [], []
    channels, size = 16, 16.0
    for stage, (wide, repeats, stride) in enumerate(_FBNET_STAGES):
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            costs = [_fbnet_block(operator, channels, wide, step, size) for operator in operators]
            work.append([cost[0] for cost in costs])
            launches.append([cost[1] for cost in costs])
            stages.append(stage)
            channels, size = wide, size / step
    layers = np.arange(len(stages))
    arithmetic, calls = np.array(work)[layers, genes], np.array(launches)[layers, genes]
    in_stage = np.eye(len(_FBNET_STAGES))[stages]
    return np.concatenate(
        [
            (genes[:, :, None] == np.arange(len(operators))).sum(axis=1),
            np.stack([calls.sum(axis=1), arithmetic.sum(axis=1), np.sqrt(arithmetic).sum(axis=1)], axis=1),
            arithmetic @ in_stage,
            calls @ in_stage,
        ],
        axis=1,
    )


def _fbnet_block(operator: str, channels: int, wide: int, stride: int, size: float) -> tuple[float, int]:
    """Multiply-accumulates (up to a constant) and launches of an operator such as k5_e1_g2, or skip."""
    out = (size / stride) ** 2
    if operator == "skip":
        same = channels == wide and stride == 1
        return (0.0, 0) if same else (channels * wide * out, 1)
    parts = operator.split("_")
    kernel, expansion, groups = int(parts[0][1:]), int(parts[1][1:]), 2 if "g2" in parts else 1
    inner = channels * expansion
    return channels * inner / groups * size**2 + inner * kernel**2 * out + inner * wide / groups * out, 3


def _ofa(genes: Array) -> tuple[Array, Array]:
    """Genes: 5 depths, 20 kernel sizes, 20 expansions, resolution."""
    depth, kernel, expansion, resolution = np.split(genes, [5, 25, 45], axis=1)
    active = np.tile(np.arange(_OFA_BLOCKS), 5)[None] < np.repeat(depth, _OFA_BLOCKS, axis=1)
    blocks = [active & (kernel == k) & (expansion == e) for k in (3, 5, 7) for e in (3, 4, 6)]
    area = (resolution / 224.0) ** 2
    one_hot = np.concatenate([*blocks, area], axis=1).astype(float)
    channels, sizes = np.repeat(_OFA_CHANNELS, _OFA_BLOCKS)[None], np.repeat(_OFA_SIZES, _OFA_BLOCKS)[None]
    work = active * (2 * channels**2 * expansion + channels * expansion * kernel**2) * sizes**2.0
    total = work.sum(axis=1, keepdims=True) * area
    launches = active.sum(axis=1, keepdims=True)
    per_stage = work.reshape(len(genes), 5, _OFA_BLOCKS).sum(axis=2) * area
    structure = [depth, launches, total, np.log(total), np.log(resolution), per_stage, launches * area]
    return one_hot, np.concatenate(structure, axis=1).astype(float)
