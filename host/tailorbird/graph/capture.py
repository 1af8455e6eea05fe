"""Capture: from a user's module to one flat ATen graph in a normal form that rules can rely on.

Normal form: every argument positional and present (schema defaults filled in), no aliases, no in-place ops where the
tensor they change has no other name, one `split_with_sizes` for the whole split family, no guards.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from tailorbird.errors import ElasticError
from tailorbird.graph.fold import fold_constants
from tailorbird.graph.inputs import Inputs
from tailorbird.graph.mutation import remove_mutation
from tailorbird.graph.names import make_writable
from tailorbird.graph.op import VIEWS, op_name
from tailorbird.graph.origin import error_origin
from tailorbird.graph.outputs import plain_outputs
from tailorbird.graph.regions import inline_regions
from tailorbird.graph.state import hide_empty_buffers, kept_state

__all__ = ["TRACE_BATCHES", "VIEWS", "Capture", "capture", "normalise", "op_name", "trace_batch", "with_batch"]

# Batch sizes to trace with: primes, so that a factor of the batch cannot be mistaken for a factor of the model.
TRACE_BATCHES = (131, 137, 139, 149, 151, 157, 163, 167)


@dataclass(frozen=True)
class Capture:
    """A captured module. `tensors` are parameters, buffers and constants by their name in the graph.

    constants: the names of those that nothing can change, for they are no state of the user's modules.
    """

    graph: Graph
    tensors: dict[str, Tensor]
    parameters: frozenset[str]
    constants: frozenset[str]
    out_spec: pytree.TreeSpec
    batch: int | None  # the batch size in the recorded shapes, None when the graph only runs at the example's


def trace_batch(model: nn.Module, inputs: Inputs) -> int | None:
    """A batch size that divides no size in the model, so that it can be told apart; None without a batch axis."""
    if inputs.batch is None:
        return None
    tensors = (*model.parameters(), *model.buffers(), *inputs.tensors)
    sizes = {size for tensor in tensors for size in tensor.shape}
    return next((batch for batch in TRACE_BATCHES if all(size % batch for size in sizes if size)), None)


def with_batch(inputs: Inputs, batch: int) -> Inputs:
    """Inputs of another batch size (contents undefined: only for tracing shapes)."""
    return inputs.map_batched(lambda x: x.new_empty((batch, *x.shape[1:])))


def capture(model: nn.Module, inputs: Inputs | tuple[Tensor, ...], *, batch: int | None) -> Capture:
    """Export `model` (in eval mode, without decompositions) and bring the graph to normal form.

    batch: the batch size to trace with, None to trace with the inputs as they are.

    Raises: ElasticError when torch.export cannot capture the model.
    """
    example = Inputs.of(inputs) if batch is None else with_batch(Inputs.of(inputs), batch)
    try:
        # With gradients on, regions without them are recorded.
        with torch.enable_grad(), kept_state(model), plain_outputs(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # export remarks on attributes that modules assign while they run
            hide_empty_buffers(model)
            program = torch.export.export(model, example.args, dict(example.kwargs), strict=False)
            renamed = make_writable(program)
            module = program.module(check_guards=False)
    except Exception as error:
        line = error_origin(error)
        raise ElasticError(
            f"{type(model).__name__} cannot be captured by torch.export" + (f", at {line}" if line else ""),
            why=_first_line(error),
            fix="make the forward pass free of data-dependent Python control flow (use torch.where or torch.cond), "
            "and check that model(*example_inputs) runs; torch.export.export(model, example_inputs) must succeed",
        ) from error
    graph = module.graph
    _drop_replacements(graph, module)
    inline_regions(module, graph)
    normalise(graph)
    tensors = _stored(graph, module)
    tensors |= fold_constants(module, _constants(model, tensors), batch)
    tensors = {str(node.target): tensors[str(node.target)] for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in renamed:
            node.target = renamed[str(node.target)]
    tensors = {renamed.get(name, name): tensor for name, tensor in tensors.items()}
    parameters = frozenset(name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter))
    out_spec = program.call_spec.out_spec
    assert out_spec is not None
    return Capture(graph, tensors, parameters, frozenset(_constants(model, tensors)), out_spec, batch)


def _drop_replacements(graph: Graph, root: nn.Module) -> None:
    """A buffer that the forward pass replaced by one of another shape (a table for a longer sequence) stays as it is.

    torch.export records it as a write into the buffer, which cannot hold it.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or op_name(node) != "copy_" or node.users or node.args[0].op != "get_attr":
            continue
        held, written = _attribute(root, str(node.args[0].target)).shape, node.args[1].meta["val"].shape
        try:
            fits = torch.broadcast_shapes(held, written) == held
        except RuntimeError:
            fits = False
        if not fits:
            graph.erase_node(node)


def normalise(graph: Graph) -> None:
    """Bring an exported graph to normal form, in place."""
    for node in list(graph.nodes):
        if node.op == "call_module" or (node.op == "call_function" and op_name(node) in _CHECKS):
            graph.erase_node(node)
        elif node.op == "call_function" and op_name(node) == "alias":
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in list(graph.nodes):
        _fill_arguments(node)
    remove_mutation(graph)
    for node in list(graph.nodes):
        _unify_splits(node)
    graph.eliminate_dead_code()
    for node in list(graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.erase_node(node)
    graph.lint()


_CHECKS = frozenset({"_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range_for_size", "_assert_async"})


def _fill_arguments(node: Node) -> None:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return
    args: list[Any] = list(node.args)
    kwargs = dict(node.kwargs)
    for position, argument in enumerate(schema.arguments):
        if argument.kwarg_only:
            break
        if position < len(args):
            continue
        if argument.name in kwargs:
            args.append(kwargs.pop(argument.name))
        elif argument.has_default_value():
            args.append(argument.default_value)
        else:
            return
    node.args, node.kwargs = tuple(args), kwargs


def _unify_splits(node: Node) -> None:
    if node.op != "call_function" or op_name(node) not in {"split", "chunk", "tensor_split"}:
        return
    value = node.meta["val"]
    axis = cast("int", node.args[2]) % value[0].ndim
    node.args = (node.args[0], [piece.shape[axis] for piece in value], axis)
    node.target = torch.ops.aten.split_with_sizes.default


def _stored(graph: Graph, root: nn.Module) -> dict[str, Tensor]:
    return {str(node.target): _attribute(root, str(node.target)) for node in graph.nodes if node.op == "get_attr"}


def _constants(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that are no state of the user's modules: nothing can change them later."""
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    state = buffers | {name for name, t in tensors.items() if isinstance(t, nn.Parameter) or t.requires_grad}
    return {name: tensor for name, tensor in tensors.items() if name not in state}


def _attribute(root: nn.Module, name: str) -> Tensor:
    value: Any = root
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"
