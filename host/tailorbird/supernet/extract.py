"""Extract: a stand-alone subnet with its own weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.fx import GraphModule

from tailorbird.errors import InputShapeError, UsageError
from tailorbird.graph import as_module
from tailorbird.graph.names import attribute_path
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import Example, SuperNet


def extract(net: SuperNet, config: Config, example: Example | None = None) -> GraphModule:
    """The subnet of a configuration as a GraphModule in eval mode, bitwise equal to `net(x, config=config)`.

    It owns copies of its weights under the user's names (recalibrated statistics included), takes any batch size the
    network takes at the sizes of the example, and torch.export.export(subnet, inputs) exports it again. Frozen
    parameters stay frozen; it runs on the device the SuperNet is on. Raises: UsageError, InputShapeError.
    """
    chosen = net.space.canonical(config)
    sized = net.at_example(chosen, example)
    selection = sized.selection(chosen)
    made = sized.subgraph(chosen, selection)
    statistics, stored, share = net.statistics(chosen), sized.graph.stored, net.share(chosen)
    owned = {
        name: statistics[name] if name in statistics else sized.cut(name, selection.cuts(stored[name]), share)
        for name in made.tensors
    }
    shared = {name: sized.tensor(name) for name in made.tensors}
    trains = {name: shared[name].requires_grad for name in made.tensors if isinstance(shared[name], nn.Parameter)}
    subnet = as_module(made.graph, {name: t.detach().clone() for name, t in owned.items()}, trains, "Subnet")
    if sized.graph.batch_pin is not None:
        subnet.register_forward_pre_hook(_OneBatch(net.report.model, tuple(x.shape[:1] for x in sized.graph.inputs)))
    return subnet


def adopt(net: SuperNet, config: Config, module: nn.Module) -> None:
    """Take over the weights and statistics of a stand-alone subnet for a configuration.

    `net(x, config=config)` in eval mode, `extract` and `save` use them from then on; training and other subnets do not,
    and `fit` drops them like recalibrated statistics. Raises: UsageError when they belong to another configuration.
    """
    chosen = net.space.canonical(config)
    if chosen.is_full:
        raise UsageError("the full network has its own weights", fix="load them with net.load_state_dict")
    sized = net.at_example(chosen)
    selection = sized.selection(chosen)
    given = {name: t.detach() for name, t in (*module.named_parameters(), *module.named_buffers())}
    own: dict[str, Tensor] = {}
    for name in sized.subgraph(chosen, selection).tensors:
        found = given.get(attribute_path(name))
        wanted = sized.cut(name, selection.cuts(sized.graph.stored[name]), 0.0).shape
        if found is None or found.shape != wanted:
            raise UsageError(
                f"this module is not subnet {chosen.key} of {net.report.model}",
                why=f"{name} is {tuple(wanted)} there, {'absent' if found is None else tuple(found.shape)} here",
                fix="pass what net.extract(config) or net.fine_tune(config, loader) returned",
            )
        own[name] = found.clone().to(net.device)
    net.set_statistics(chosen, own)


@dataclass(frozen=True, slots=True)
class _OneBatch:
    """Refuses other batch sizes than the one a subnet holds constants for."""

    model: str
    sizes: tuple[tuple[int | None, ...], ...]

    def __call__(self, _subnet: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Raises: InputShapeError."""
        for given, size in zip(inputs, self.sizes, strict=False):
            if isinstance(given, Tensor) and tuple(given.shape[:1]) != size:
                raise InputShapeError(
                    f"this subnet of {self.model} was extracted for inputs of batch {size[0] if size else 1}, "
                    f"got {tuple(given.shape)}",
                    why="the network computes with its batch size, which is a constant of the subnet",
                    fix="extract it for this batch: net.extract(config, example)",
                )
