"""A subnet captured for compilation: the exported aten graph, functional, with batch norm folded away."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from tailorbird.compile.fold import fold_batch_norm
from tailorbird.compile.fusion import activation_name
from tailorbird.compile.node import functional_twin, is_mutating, is_view
from tailorbird.compile.retrace import retrace
from tailorbird.errors import CompileError, ModelError
from tailorbird.types import TensorSpec

_DATATYPES = {
    torch.float32: "FP32",
    torch.float16: "FP16",
    torch.int64: "INT64",
    torch.int32: "INT32",
    torch.int8: "INT8",
    torch.uint8: "UINT8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True, slots=True)
class Network:
    """What backends read: aten operations on (N, C, H, W) tensors of fixed shape, none in place, no batch norm.

    inputs and outputs are the signature of `program`, outputs named output_0, output_1, ...
    """

    program: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def graph(self) -> fx.Graph:
        """The graph whose placeholders are parameters, buffers and inputs."""
        return self.program.graph_module.graph

    def constants(self) -> dict[str, torch.Tensor]:
        """Placeholder name -> value, for every parameter, buffer and lifted constant."""
        program, values = self.program, {}
        for spec in program.graph_signature.input_specs:
            if spec.kind in {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}:
                name = str(spec.target)
                value: Any = program.state_dict[name] if name in program.state_dict else program.constants[name]
                values[spec.arg.name] = value.detach()
        return values


def capture(subnet: nn.Module, example_inputs: Sequence[torch.Tensor]) -> Network:
    """Export a subnet in evaluation mode at the shapes of its example inputs and fold its batch norms.

    The subnet itself is left as it was, training mode included.

    Raises:
        ModelError: torch.export refuses the module, or it does not take the inputs given.
        CompileError: an input or output is not a tensor of a supported datatype.
    """
    try:
        with evaluating(subnet):
            program = retrace(subnet, example_inputs) or torch.export.export(subnet, tuple(example_inputs))
    except Exception as error:
        raise ModelError(
            "the subnet cannot be exported",
            why=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            fix="make it a module that torch.export.export accepts: no data-dependent Python control flow",
        ) from error
    with torch.no_grad():
        program = _drop_repeated_rectifiers(fold_batch_norm(_functional(program)))
    inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    outputs = next(iter(reversed(program.graph.nodes))).args[0]
    assert isinstance(outputs, (tuple, list))
    return Network(
        program,
        tuple(_spec(node.name, node) for node in inputs),
        tuple(_spec(f"output_{index}", node) for index, node in enumerate(outputs)),
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _spec(name: str, node: object) -> TensorSpec:
    value = node.meta.get("val") if isinstance(node, fx.Node) else node
    if not isinstance(value, torch.Tensor) or value.dtype not in _DATATYPES:
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise CompileError(
            f"{name} cannot cross the boundary of a compiled module",
            why=f"it is a {kind}",
            fix=f"use tensors of {', '.join(str(dtype).removeprefix('torch.') for dtype in _DATATYPES)}",
        )
    if not all(isinstance(extent, int) for extent in value.shape):
        raise CompileError(f"{name} has a dynamic shape", fix="export with fixed shapes")
    return TensorSpec(name, _DATATYPES[value.dtype], tuple(value.shape))


def _functional(program: ExportedProgram) -> ExportedProgram:
    """Replace in-place operations: by renaming where nobody else sees the mutated tensor, else torch functionalises."""
    mutating = [node for node in program.graph.nodes if is_mutating(node)]
    if not all(_renames(node) for node in mutating):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of its tree library
            return program.run_decompositions({})
    for node in mutating:
        node.target = functional_twin(node)
    program.graph_module.recompile()
    return program


def _drop_repeated_rectifiers(program: ExportedProgram) -> ExportedProgram:
    """relu(relu(x)) is relu(x): what a skipped residual block leaves behind the block before it."""
    for node in list(program.graph.nodes):
        if node.op != "call_function" or activation_name(node) != "relu":
            continue
        before = node.args[0]
        is_result = any(user.op == "output" for user in node.users)
        if isinstance(before, fx.Node) and activation_name(before) in {"relu", "relu6"} and not is_result:
            node.replace_all_uses_with(before)
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program


def _renames(node: fx.Node) -> bool:
    operand = node.args[0]
    if functional_twin(node) is None or not isinstance(operand, fx.Node) or operand.op != "call_function":
        return False
    return len(operand.users) == 1 and not is_view(operand)
