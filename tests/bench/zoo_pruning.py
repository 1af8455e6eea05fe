"""The same networks through Torch-Pruning (DepGraph, Fang et al., 2023): half of all channels, by magnitude.

It gets what its documentation asks of a user, found generically: layers that make the outputs are ignored, layers of
attention are given their number of heads, attributes that hold a size of attention follow the pruned layers.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch_pruning as pruning
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.zoo.entry import Entry

Row = dict[str, Any]
Inputs = tuple[Tensor, ...]

_HEADS = ("num_heads", "n_heads", "num_attention_heads", "n_head", "heads", "nhead", "nh")
_PROJECTIONS = ("qkv", "kv", "in_proj", "c_attn", "query_key_value", "query", "key", "value", "q", "k", "v")
_PROJECTIONS += tuple(f"{name}_{kind}" for kind in ("proj", "lin") for name in ("q", "k", "v", "query", "key", "value"))
_PROJECTIONS += tuple(f"to_{name}" for name in ("q", "k", "v", "qkv"))
_CHANNEL_WISE = ("Mul", "Add", "Sub", "Div", "NativeLayerNorm", "NativeBatchNorm", "NativeGroupNorm", "FusedRmsNorm")
_VIEWS = ("T", "Transpose", "View", "UnsafeView", "Unsqueeze", "Expand", "Permute", "Slice", "Select", "Alias")
_HALF = 0.5
_LIMIT_SECONDS = 45  # it does not end on some networks


def prune(entry: Entry) -> Row:
    """ran: pruning itself raised nothing; forward: the pruned network runs; shapes: its outputs have their shapes."""
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_LIMIT_SECONDS)
    model, inputs = entry.build()
    row: Row = {"ran": False, "forward": False, "shapes": False}
    expected = [tuple(x.shape) for x in _outputs(model(*_copies(inputs)))]
    before = sum(p.numel() for p in model.parameters())
    heads = _heads(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pruner = pruning.BasePruner(
                model,
                _copies(inputs),
                importance=pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=_HALF,
                ignored_layers=output_layers(model, inputs),
                num_heads=dict(heads),
                in_channel_groups={},
                out_channel_groups={},
                output_transform=_traceable,
            )
            widths = {layer: _width(layer) for layer in heads}
            pruner.step()
        _resize_attention(model, widths)
        row["ran"] = True
        row["params"] = sum(p.numel() for p in model.parameters())
        row["share"] = round(row["params"] / before, 4)
        with torch.no_grad():
            outputs = _outputs(model(*_copies(inputs)))
        row["forward"] = True
        row["shapes"] = [tuple(x.shape) for x in outputs] == expected
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"[:400]
    finally:
        signal.alarm(0)
    return row


def _give_up(_signal: int, _frame: object) -> None:
    raise TimeoutError(f"not ready after {_LIMIT_SECONDS} s")


def _copies(inputs: Inputs) -> Inputs:
    return tuple(x.clone() for x in inputs)


def _outputs(value: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def _traceable(value: object) -> list[Tensor]:
    return [x for x in _outputs(value) if x.grad_fn is not None]


def output_layers(model: nn.Module, inputs: Inputs) -> list[nn.Module | nn.Parameter]:
    """Layers that decide how wide the outputs are, with their parameters (an unknown layer is a parameter to it).

    The autograd graph is walked from the outputs up to the first layers that mix channels.
    """
    owners = {p: layer for layer in model.modules() for p in layer.parameters(recurse=False)}
    ahead = [x.grad_fn for x in _outputs(model(*_copies(inputs))) if x.grad_fn is not None]
    seen, found = set(), dict.fromkeys(())
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        sources = [source for source, _ in node.next_functions if source is not None]
        stored = [p for source in sources if (p := _parameter(source)) is not None and p in owners]
        found |= dict.fromkeys(stored)
        if not stored or _kind(node) in _CHANNEL_WISE:
            ahead += [source for source in sources if _parameter(source) is None]
    layers = dict.fromkeys(owners[p] for p in found if next(owners[p].children(), None) is None)
    return [*layers, *found]


def _kind(node: Any) -> str:
    return node.name().removesuffix("0").removesuffix("Backward")


def _parameter(node: Any) -> nn.Parameter | None:
    """The parameter behind a node of the autograd graph: itself, or seen through a view of it."""
    while not hasattr(node, "variable"):
        sources = [source for source, _ in node.next_functions if source is not None]
        if _kind(node) not in _VIEWS or len(sources) != 1:
            return None
        node = sources[0]
    return node.variable


def _attention(model: nn.Module) -> Iterator[tuple[nn.Module, int, list[nn.Module]]]:
    """Modules that name a number of heads, with their query, key and value layers."""
    for module in model.modules():
        count = next((c for name in _HEADS if isinstance(c := getattr(module, name, None), int)), None)
        if isinstance(module, nn.MultiheadAttention):
            yield module, module.num_heads, [module]
            continue
        layers = [m for name, m in module.named_children() if name in _PROJECTIONS and hasattr(m, "weight")]
        if count is not None and layers:
            yield module, count, layers


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    return {layer: count for _, count, layers in _attention(model) for layer in layers}


def _width(layer: nn.Module) -> int:
    return int(layer.embed_dim) if isinstance(layer, nn.MultiheadAttention) else int(layer.weight.shape[0])


def _resize_attention(model: nn.Module, widths: dict[nn.Module, int]) -> None:
    """What the documentation asks a user to do by hand: sizes kept as attributes follow the pruned projections."""
    for module, count, layers in _attention(model):
        old, new = widths[layers[0]], _width(layers[0])
        if isinstance(module, nn.MultiheadAttention) or old == new:
            continue
        fused = 3 if old % 3 == 0 and len(layers) == 1 else 1
        scaled = {old // fused: new // fused, old // fused // count: new // fused // count}
        for name, value in list(vars(module).items()):
            if isinstance(value, int) and not isinstance(value, bool) and value in scaled and name not in _HEADS:
                setattr(module, name, scaled[value])
