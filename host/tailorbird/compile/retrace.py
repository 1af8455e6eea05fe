"""The exported program of a graph that is aten already: an extracted subnet lacks nothing but the sizes of its values.

torch.export runs a module's code and every operation in it through several layers of tracing: a third of a second for
twenty layers. What the SuperNet extracts came out of torch.export once. Here its operations are run once more on
tensors without storage, which takes a tenth of that and gives the same program.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._export.verifier import TrainingIRVerifier
from torch._ops import OpOverload
from torch._subclasses import FakeTensorMode
from torch.export import ExportedProgram, ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.fx.graph import _PyTreeCodeGen
from torch.fx.node import map_aggregate, map_arg
from torch.utils import _pytree as pytree

from tailorbird.compile.node import is_mutating
from tailorbird.graph import op_name

_ARITHMETIC = frozenset({operator.mul, operator.add, operator.getitem})


def retrace(subnet: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram | None:
    """What torch.export.export makes of a graph of aten operations; None for a module that may have more in it.

    Raises what an operation raises that does not take its operands.
    """
    if not isinstance(subnet, fx.GraphModule) or not _is_plain(subnet, inputs):
        return None
    tracer = _Tracer(subnet)
    with FakeTensorMode() as mode, torch.no_grad():
        tracer.run(mode, inputs)
    if tracer.outputs is None:
        return None
    info = _tree(subnet.graph)
    call = ModuleCallSignature([], [], info.in_spec, info.out_spec, list(info.orig_args))
    return ExportedProgram(
        root=nn.Module(),
        graph=tracer.graph,
        graph_signature=ExportGraphSignature(tracer.inputs, tracer.outputs),
        state_dict=tracer.state,
        range_constraints={},
        module_call_graph=[ModuleCallEntry("", call)],
        example_inputs=(tuple(inputs), {}),
        constants={},
        verifiers=[TrainingIRVerifier],
    )


def _tree(graph: fx.Graph) -> Any:
    codegen = graph._codegen  # noqa: SLF001
    return codegen.pytree_info if isinstance(codegen, _PyTreeCodeGen) else None


def _is_plain(subnet: fx.GraphModule, inputs: Sequence[Tensor]) -> bool:
    """Whether there is nothing in a module but operations without side effects on tensors given by position."""
    info = _tree(subnet.graph)
    if info is None or info.in_spec != pytree.tree_structure((tuple(inputs), {})) or subnet._forward_pre_hooks:  # noqa: SLF001
        return False
    return all(_is_plain_node(node, subnet) for node in subnet.graph.nodes)


def _is_plain_node(node: fx.Node, subnet: fx.GraphModule) -> bool:
    if node.op == "get_attr":
        return isinstance(_stored(subnet, node), Tensor)
    if node.op == "call_function":
        return node.target in _ARITHMETIC or (isinstance(node.target, OpOverload) and not is_mutating(node))
    return node.op in {"placeholder", "output"}


def _stored(subnet: fx.GraphModule, node: fx.Node) -> Any:
    return operator.attrgetter(str(node.target))(subnet)


class _Tracer:
    """A copy of a graph with stored tensors as inputs, and with values that are known: all sizes."""

    def __init__(self, subnet: fx.GraphModule) -> None:
        self.graph = fx.Graph()
        self.inputs: list[InputSpec] = []
        self.outputs: list[OutputSpec] | None = None
        self.state: dict[str, Any] = {}
        self._subnet = subnet
        self._new: dict[fx.Node, Any] = {}  # a node, or the number that it stands for

    def run(self, mode: FakeTensorMode, inputs: Sequence[Tensor]) -> None:
        """Copy everything in the order of torch.export: parameters, buffers, inputs, operations."""
        nodes = list(self._subnet.graph.nodes)
        stored = [(node, _stored(self._subnet, node)) for node in nodes if node.op == "get_attr"]
        for kind, prefix in ((InputKind.PARAMETER, "p_"), (InputKind.BUFFER, "b_")):
            for node, value in stored:
                if isinstance(value, nn.Parameter) is (kind is InputKind.PARAMETER):
                    self._lift(node, mode.from_tensor(value), value, kind, prefix)
        given = (node for node in nodes if node.op == "placeholder")
        for node, value in zip(given, inputs, strict=True):
            made = self._new[node] = self.graph.placeholder(node.name)
            made.meta["val"] = mode.from_tensor(value)
            self.inputs.append(InputSpec(InputKind.USER_INPUT, TensorArgument(made.name), None))
        for node in nodes:
            if node.op == "call_function":
                self._call(node)
        self._end(nodes[-1].args[0])

    def _lift(self, node: fx.Node, fake: Tensor, value: Tensor, kind: InputKind, prefix: str) -> None:
        name = str(node.target)
        if name in self.state:
            self._new[node] = next(self._new[other] for other in self._new if other.target == node.target)
            return
        self.state[name] = value
        made = self._new[node] = self.graph.placeholder(prefix + name.replace(".", "_"))
        made.meta["val"] = fake
        persistent = True if kind is InputKind.BUFFER else None
        self.inputs.append(InputSpec(kind, TensorArgument(made.name), name, persistent))

    def _call(self, node: fx.Node) -> None:
        def known(argument: Any) -> Any:
            return argument.meta["val"] if isinstance(argument, fx.Node) else argument

        args, kwargs = map_arg((node.args, node.kwargs), self._new.__getitem__)
        value = node.target(*map_aggregate(args, known), **map_aggregate(kwargs, known))  # type: ignore[operator]
        if isinstance(value, (int, float, bool)):
            self._new[node] = value
            return
        target: Any = node.target
        name = op_name(node) if isinstance(target, OpOverload) else target.__name__
        made = self.graph.create_node("call_function", target, _trimmed(target, args), kwargs, name=name)
        made.meta = {**node.meta, "val": value}
        self._new[node] = made

    def _end(self, values: Any) -> None:
        found = [self._new[x] if isinstance(x, fx.Node) else x for x in values]
        self.graph.output(tuple(found))
        if all(isinstance(x, fx.Node) and isinstance(x.meta["val"], Tensor) for x in found):
            self.outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(x.name), None) for x in found]


def _trimmed(target: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments without those at the end that are as the schema has them anyway."""
    if not isinstance(target, OpOverload):
        return args
    schema: Any = target._schema  # noqa: SLF001
    while args:
        last = schema.arguments[len(args) - 1]
        if not last.has_default_value() or isinstance(args[-1], fx.Node) or args[-1] != last.default_value:
            break
        args = args[:-1]
    return args
