"""Save a SuperNet and load it back: weights, kernel transforms, channel order, statistics, compile options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from tailorbird.errors import MissingFileError, ModelError
from tailorbird.supernet.durable import read_tensors, write_tensors
from tailorbird.supernet.learnt import Learnt
from tailorbird.supernet.options import Options
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_FORMAT = 3


def save(net: SuperNet, path: Path) -> None:
    """Write everything that elastic() cannot find again to one file. The network's code is not stored.

    Raises: OSError when it cannot be written; a file that was there before is untouched then.
    """
    write_tensors(contents(net), path)


def contents(net: SuperNet) -> dict[str, Any]:
    """What is saved of a SuperNet: plain values and tensors."""
    return {
        "format": _FORMAT,
        "model": net.report.model,
        "options": net.options.arguments(),
        "state": dict(net.state_dict()),
        "learnt": None if net.learnt is None else dict(net.learnt.named()),
        "transforms": dict(net.transforms.state_dict()),
        "orders": net.orders,
        "statistics": {config.to_json(): dict(found) for config, found in net.recalibrated()},
    }


def load(path: Path, model: nn.Module, *example: Any) -> SuperNet:
    """Compile `model` with the options of the saved SuperNet and read its state back. `model` is not changed.

    Raises: MissingFileError; ModelError when the file is no SuperNet or belongs to another network.
    """
    from tailorbird.supernet.elastic import elastic

    if not path.is_file():
        raise MissingFileError(f"{path} does not exist", fix="pass the path given to SuperNet.save")
    try:
        data: dict[str, Any] = read_tensors(path)
        options = data["options"]
        net = elastic(model, *example, **(options | {"importance": "l2"}))  # the order is read back
        _check(data, net)
        restore(net, data)
        net.options = Options.of(**options)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{path} cannot be loaded into {type(model).__name__}",
            why=f"{type(error).__name__}: {error}",
            fix="pass the model class and example inputs it was saved with",
        ) from error
    return net


def restore(net: SuperNet, data: dict[str, Any]) -> None:
    """Put what `contents` gave into a SuperNet of the same network, wherever that is."""
    net.load_state_dict(data["state"])
    if data["learnt"] is not None:
        net.set_learnt(Learnt.like(net.weights, data["learnt"]))
    net.transforms.load_state_dict(data["transforms"])
    net.set_orders(data["orders"])
    for text, found in data["statistics"].items():
        net.set_statistics(Config.from_json(text), found)


def _check(data: dict[str, Any], net: SuperNet) -> None:
    if data["format"] != _FORMAT:
        raise ValueError(f"format {data['format']}, expected {_FORMAT}")
    if {name: len(order) for name, order in data["orders"].items()} != {n: len(o) for n, o in net.orders.items()}:
        raise ValueError(f"it was saved from {data['model']} with other dimensions")
