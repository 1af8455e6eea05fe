"""Resampling: interpolation, sampling grids, and channels that become pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from tailorbird.graph.algebra import Dims, dim_size
from tailorbird.graph.registry import UnknownError, rule

if TYPE_CHECKING:
    from tailorbird.graph.analysis import Analysis

_UPSAMPLES = """
    upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
    upsample_trilinear3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    _upsample_bilinear2d_aa _upsample_bicubic2d_aa
"""


@rule(*_UPSAMPLES.split())
def upsample(analysis: Analysis, node: Node) -> Dims:
    """The image axes are fixed before and after."""
    dims, shape = analysis.dims(node.args[0]), analysis.shape(node)
    for dim in dims[2:]:
        analysis.fix(dim)
    return (*dims[:2], *map(analysis.constant, shape[2:]))


@rule("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def grid_sample(analysis: Analysis, node: Node) -> Dims:
    """x (N, C, H, W) at grid (N, h, w, 2): the channels pass."""
    data, grid = node.args[:2]
    x, g = analysis.dims(data), analysis.dims(grid)
    analysis.unify(x[0], g[0], node)
    for dim in (*x[2:], g[-1]):
        analysis.fix(dim)
    return (*x[:2], *g[1:-1])


@rule("pixel_shuffle")
def pixel_shuffle(analysis: Analysis, node: Node) -> Dims:
    """(.., C * r * r, H, W) to (.., C, H * r, W * r)."""
    dims, shape = analysis.dims(node.args[0]), analysis.shape(node)
    _fix_image(analysis, dims)
    channels, each = analysis.factor(dims[-3], (shape[-3], dim_size(dims[-3]) // shape[-3]), node)
    analysis.pin(each, node, "a group of channels becomes a patch of pixels")
    return (*dims[:-3], channels, *map(analysis.constant, shape[-2:]))


@rule("pixel_unshuffle")
def pixel_unshuffle(analysis: Analysis, node: Node) -> Dims:
    """(.., C, H * r, W * r) to (.., C * r * r, H, W)."""
    dims, shape = analysis.dims(node.args[0]), analysis.shape(node)
    _fix_image(analysis, dims)
    each = analysis.constant(shape[-3] // dim_size(dims[-3]))
    channels = analysis.algebra.product([dims[-3], each])
    assert channels is not None
    return (*dims[:-3], channels, *map(analysis.constant, shape[-2:]))


def _fix_image(analysis: Analysis, dims: Dims) -> None:
    for dim in dims[-2:]:
        if analysis.follows_batch(dim):
            raise UnknownError("an image axis follows the batch")
        analysis.fix(dim)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(analysis: Analysis, node: Node) -> Dims:
    """[groups][channels/groups] change places; the number of groups is an argument and stays."""
    dims = analysis.dims(node.args[0])
    groups: Any = node.args[1]
    outer, inner = analysis.factor(dims[1], (groups, dim_size(dims[1]) // groups), node)
    analysis.pin(outer, node, "channels are dealt out to a fixed number of groups")
    mixed = analysis.algebra.product([inner, outer])
    assert mixed is not None
    return (dims[0], mixed, *dims[2:])
