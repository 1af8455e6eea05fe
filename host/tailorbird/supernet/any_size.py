"""A stand-alone subnet for inputs of any size that the SuperNet takes: one set of weights, a graph for each size.

`extract` makes subnets for one size. Here the graphs of other sizes are made from the SuperNet's captures when inputs
of such a size come.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from tailorbird.errors import InputShapeError
from tailorbird.graph import follow_mode
from tailorbird.graph.names import attribute_path
from tailorbird.supernet.extract import extract
from tailorbird.supernet.recent import Recent
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.sized import Sized
    from tailorbird.supernet.supernet import SuperNet

_KEPT = 8  # graphs at different sizes, as many as captures
_CAPTURES = threading.RLock()  # a subnet and its teacher run side by side, and share the captures of one network


def extract_any_size(net: SuperNet, config: Config) -> GraphModule:
    """The subnet that `extract` gives, with the same names, for inputs of all sizes that `net` takes.

    Follows train() and eval(). It refers to `net`, which must keep its structure and stay on its device.

    Raises: UsageError; InputShapeError when it runs, for inputs that do not fit.
    """
    chosen = net.space.canonical(config)
    module = extract(net, chosen)
    own = tuple(str(node.target) for node in module.graph.nodes if node.op == "get_attr")
    graph = Graph()
    leaves = [graph.node_copy(node) for node in module.graph.nodes if node.op == "placeholder"]
    tensors = [graph.get_attr(name) for name in own]
    (output,) = (node for node in module.graph.nodes if node.op == "output")
    module.add_module("at_size", _AtSize(_Bodies(net, chosen, own)))
    answer = graph.call_module("at_size", (*tensors, *leaves))
    graph.output([graph.call_function(operator.getitem, (answer, place)) for place in range(len(output.args[0]))])
    graph.set_codegen(module.graph._codegen)  # noqa: SLF001  (the user's own input and output structure)
    return GraphModule(module, graph, "Subnet").eval()


@dataclass(frozen=True, slots=True)
class _Body:
    """A graph as a function of (tensors..., inputs...). operands: each a place among the subnet's, or a constant."""

    module: GraphModule
    operands: tuple[int | Tensor, ...]


class _Bodies:
    """The graphs of a subnet. No module: it has no tensors of its own, and copies of the subnet share it."""

    def __init__(self, net: SuperNet, config: Config, own: tuple[str, ...]) -> None:
        self._net, self._config = net, config
        self._places = {name: place for place, name in enumerate(own)}
        self._known: Recent[Sized, _Body] = Recent(_KEPT)

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Bodies:
        return self

    @property
    def count(self) -> int:
        """How many tensors the subnet owns."""
        return len(self._places)

    def find(self, leaves: Sequence[Any]) -> _Body:
        """The graph for inputs of these sizes. Raises: InputShapeError."""
        with _CAPTURES:
            if torch.compiler.is_exporting() and self._net.sizes.find(leaves) is None:
                raise InputShapeError("this size cannot be captured while another one is")
            sized = self._net.at(leaves, self._config)
            return self._known.get(sized) or self._known.put(sized, self._made(sized))

    def _made(self, sized: Sized) -> _Body:
        selection = sized.selection(self._config)
        made = sized.subgraph(self._config, selection, lifted=True)
        operands: list[int | Tensor] = []
        for name in made.tensors:
            place = self._places.get(attribute_path(name))
            if sized.is_constant(name):
                operands.append(sized.cut(name, selection.cuts(sized.graph.stored[name]), 0.0))
            elif place is not None:
                operands.append(place)
            else:
                raise InputShapeError(
                    f"{name} is not part of the subnet at the sizes of the example",
                    why="at this size the network uses other weights",
                    fix="compile the network for this size with elastic(model, example_inputs)",
                )
        return _Body(follow_mode(GraphModule(nn.Module(), made.graph)), tuple(operands))


class _AtSize(nn.Module):
    """Calls the graph for the sizes of its inputs."""

    def __init__(self, bodies: _Bodies) -> None:
        super().__init__()
        self._bodies = bodies

    def forward(self, *given: Any) -> Any:
        """given: the subnet's tensors, then the leaves of its inputs. Returns the leaves of its output."""
        tensors, leaves = given[: self._bodies.count], given[self._bodies.count :]
        body = self._bodies.find(leaves)
        body.module.train(self.training)
        return body.module(*(tensors[x] if isinstance(x, int) else x for x in body.operands), *leaves)
