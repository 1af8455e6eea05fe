"""Resolution: a subnet that looks at a smaller version of its image.

Every subnet takes the same full-size input and resizes it at its entry (bilinear, align_corners=False, no antialias),
so that the subnets of one network share one signature. From there on it is the network captured at the smaller size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph
from torch.nn import functional
from torch.utils import _pytree as pytree

from tailorbird.errors import InputShapeError, UsageError
from tailorbird.graph import Inputs
from tailorbird.supernet.options import Options
from tailorbird.supernet.sizes import answer, untouched
from tailorbird.types import Config

NAME = "resolution"
_LEAST = 96  # pixels: smaller images are not worth shrinking unless the user says so
_GRID = 32  # sizes are multiples of the total stride of most networks
_EIGHTHS = (4, 5, 6, 7)
_COLOURS = 4  # more channels than this are features, not an image


@dataclass(frozen=True, slots=True)
class Resolution:
    """The image among the inputs: its place among their leaves and its full size. A size is named by its height."""

    leaf: int
    height: int
    width: int

    def size(self, height: int) -> tuple[int, int]:
        """(H, W) of a choice: the width follows in proportion, on the same grid."""
        if height == self.height:
            return self.height, self.width
        width = self.width * height / self.height
        if height % _GRID == 0 and self.width >= _LEAST:
            return height, max(1, round(width / _GRID)) * _GRID
        return height, max(1, round(width))

    def resized(self, leaves: Sequence[Any], height: int) -> list[Any]:
        """Inputs whose image has the size of a choice."""
        found = list(leaves)
        found[self.leaf] = functional.interpolate(
            found[self.leaf], self.size(height), mode="bilinear", align_corners=False
        )
        return found

    def stand_ins(self, leaves: Sequence[Any], height: int) -> list[Any]:
        """As `resized`, but the image has only its shape."""
        found = list(leaves)
        image: Tensor = found[self.leaf]
        found[self.leaf] = torch.empty((*image.shape[:2], *self.size(height)), dtype=image.dtype, device="meta")
        return found

    def resize_entry(self, graph: Graph, height: int, skip: int) -> None:
        """Put the resize behind the image input of a subnet's graph, whose first `skip` inputs are stored tensors."""
        entries = [node for node in graph.nodes if node.op == "placeholder"]
        image = entries[skip + self.leaf]
        with graph.inserting_after(entries[-1]):
            small = graph.call_function(
                torch.ops.aten.upsample_bilinear2d.vec, (image, list(self.size(height)), False, None)
            )
        image.replace_all_uses_with(small, delete_user_cb=lambda user: user is not small)


def find_image(inputs: Inputs) -> Resolution | None:
    """The one image batch (N, C, H, W) among the inputs; None when the first input is none or is not the only one."""
    images = [i for i, leaf in enumerate(inputs.leaves) if isinstance(leaf, Tensor) and leaf.ndim == 4]
    first = next(i for i, leaf in enumerate(inputs.leaves) if isinstance(leaf, Tensor))
    image = inputs.leaves[first]
    if images != [first] or not image.is_floating_point() or image.shape[1] > _COLOURS:
        return None
    return Resolution(first, image.shape[2], image.shape[3])


def find_choices(image: Resolution, model: nn.Module, inputs: Inputs, options: Options) -> tuple[int, ...]:
    """Heights at which the user's module runs and answers in the same shapes, rising, the full one last.

    Raises: UsageError for sizes that the user asks for and the module does not take.
    """
    asked = next((sizes for pattern, sizes in options.choices if pattern == NAME), None)
    if asked is None and min(image.height, image.width) < _LEAST:
        return (image.height,)
    wanted = asked or {round(image.height * part / 8 / _GRID) * _GRID for part in _EIGHTHS}
    found = []
    with untouched(model):
        shapes = _shapes(answer(model, inputs, type(model).__name__))
        for height in sorted(size for size in set(wanted) if 0 < size < image.height):
            try:
                leaves = image.resized(inputs.map(Tensor.detach).leaves, height)
                small = Inputs(*pytree.tree_unflatten(leaves, inputs.structure))
                same, why = _shapes(answer(model, small, type(model).__name__)) == shapes, "its outputs change shape"
            except InputShapeError as error:
                same, why = False, error.why
            except NotImplementedError as error:  # a type of image that nothing resizes
                same, why = False, str(error)
            if same:
                found.append(height)
            elif asked is not None:
                raise UsageError(
                    f"{type(model).__name__} cannot work at a resolution of {height}", why=why, fix="leave it out"
                )
    return (*found, image.height)


def height_of(config: Config) -> int | None:
    """The resolution of a configuration, None at full size."""
    return dict(config.sizes).get(NAME)


def _shapes(output: Any) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
