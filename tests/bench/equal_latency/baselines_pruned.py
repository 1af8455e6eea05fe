"""NestDNN-style descendants: one network pruned at several ratios, each fine-tuned (Fang et al., MobiCom 2018).

As AutoTailor's authors re-implemented it: channels ranked by Torch-Pruning's group Taylor importance on training data,
removed at 7 ratios. Beside that, as stronger variants: the budget spent on ever smaller descendants of one another, the
way NestDNN's own filter-pruning roadmap goes, and one ranking over all layers.
"""

from __future__ import annotations

import base64
import copy
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch_pruning as pruning
from torch import nn
from torch.nn import functional

from tests.bench.equal_latency.entrant import Entrant, Judges, judged
from tests.bench.equal_latency.finetune import Batch, Trainer
from tests.bench.zoo_pruning import output_layers

#: Shares of the channels removed. AutoTailor tells that there are 7, not which.
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_IMPORTANCE_IMAGES = 512


@dataclass(frozen=True, slots=True)
class Pruned:
    """A pruned family. nested: each descendant goes on from the fine-tuned one before; over_all: one ranking over all
    layers.
    """

    nested: bool = False
    over_all: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Parent:
    """The fine-tuned descendant before, and the share of the first network's channels it lacks."""

    network: nn.Module
    ratio: float


def pruned(
    model: nn.Module, ratio: float, batches: Iterable[Batch], images: int, *, over_all: bool = False
) -> nn.Module:
    """A smaller copy of a network: a share of the channels of every layer (or of all layers together) removed.

    batches: labelled images, at most `images` of which are read, that importance is measured on.
    """
    made = copy.deepcopy(model).eval()
    made.zero_grad(set_to_none=True)
    left = images
    for inputs, labels in batches:
        functional.cross_entropy(made(inputs[:left]), labels[:left]).backward()
        example = inputs[:1]
        left -= len(labels)
        if left <= 0:
            break
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch-Pruning's, of parameters outside of layers
        pruner = pruning.BasePruner(
            made,
            example,
            importance=pruning.importance.GroupTaylorImportance(),
            pruning_ratio=ratio,
            ignored_layers=output_layers(made, (example,)),
            global_pruning=over_all,
            max_pruning_ratio=0.9 if over_all else 1.0,
        )
        pruner.step()
    made.zero_grad(set_to_none=True)
    return made


def descend(
    method: str,
    model: nn.Module,
    ratio: float,
    family: Pruned,
    parent: Parent | None,
    teacher: nn.Module | None,
    trainer: Trainer,
    seconds: float,
    judges: Judges,
) -> tuple[Entrant, nn.Module]:
    """A fine-tuned descendant that lacks a share of the channels, and the network itself."""
    source, relative = model, ratio
    if parent is not None:
        source, relative = parent.network, 1 - (1 - ratio) / (1 - parent.ratio)
    made = pruned(source, relative, trainer.batches, _IMPORTANCE_IMAGES, over_all=family.over_all)
    made.train()
    done = trainer.tune(made, made.parameters(), seconds, teacher)
    trainer.settle(made)
    details = {"ratio": ratio, "lr": trainer.tuning.lr, "tuned": done.to_json(), "widths": widths(made)}
    return judged(method, f"ratio {ratio:g}", made, judges, details), made


def widths(model: nn.Module) -> list[int]:
    """Output channels of every convolution, in order."""
    return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def packed(model: nn.Module) -> str:
    """A network of any structure as text, for a work folder of one's own."""
    memory = io.BytesIO()
    torch.save(model, memory)
    return base64.b64encode(memory.getvalue()).decode()


def unpacked(text: str) -> nn.Module:
    """Inverse of packed."""
    model: nn.Module = torch.load(io.BytesIO(base64.b64decode(text)), weights_only=False)
    return model
