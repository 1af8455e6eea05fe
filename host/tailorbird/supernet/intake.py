"""Intake: which modules and example inputs elastic() takes, and what it says about all others."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from tailorbird.errors import ElasticError, InputShapeError
from tailorbird.graph import Inputs

_LEAVES = (Tensor, bool, int, float, str, type(None))
_WRAPPERS = {  # class name -> the attribute that holds the user's own module
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy of the user's module in eval mode, freed of torch.compile and data-parallel wrappers around it.

    Raises: ElasticError when it is no module, cannot be copied, or holds weights that cannot be cut.
    """
    own: Any = model
    while isinstance(own, nn.Module) and type(own).__name__ in _WRAPPERS:
        own = getattr(own, _WRAPPERS[type(own).__name__])
    if not isinstance(own, nn.Module):
        raise ElasticError(
            f"elastic() needs a torch.nn.Module, not a {type(own).__name__}",
            fix="pass the module itself: of an ExportedProgram the network it was exported from",
        )
    _check_modules(own)
    _check_weights(own)
    computed = {id(t): t.detach().clone() for t in _attributes(own) if not t.is_leaf}  # deepcopy refuses these
    try:
        return copy.deepcopy(own, computed).eval()
    except Exception as error:
        raise ElasticError(
            f"{type(own).__name__} cannot be copied",
            why=f"{type(error).__name__}: {error}",
            fix="pass a model that copy.deepcopy accepts: drop open handles and the like from its attributes",
        ) from error


def read_example(model: nn.Module, example: Any, kwargs: Any) -> Inputs:
    """The example inputs, as elastic() was given them.

    Raises: InputShapeError for anything but nested containers of dense tensors on one device with the model.
    """
    name = type(model).__name__
    if isinstance(example, Mapping) and kwargs is None:
        example, kwargs = (), example
    inputs = Inputs(example, dict(kwargs or {})) if isinstance(example, tuple) else Inputs()
    strange = [leaf for leaf in inputs.leaves if not isinstance(leaf, _LEAVES)]
    if strange or not inputs.tensors or not isinstance(kwargs, Mapping | None):
        found = strange[0] if strange else kwargs if isinstance(example, tuple) and example else example
        raise InputShapeError(
            "example_inputs must be a tuple of tensors, or a mapping of keyword inputs",
            why=f"there is a {type(found).__name__}" if inputs.tensors else "there is no tensor in them",
            fix=f"call elastic(model, (x,)) as you would call {name}(x), elastic(model, {{'x': x}}) for {name}(x=x); "
            "lists, dicts, None and plain numbers may stand around tensors",
        )
    for index, x in enumerate(inputs.tensors):
        if x.layout is not torch.strided or x.is_nested or x.is_quantized:
            kind = "nested" if x.is_nested else "quantised" if x.is_quantized else str(x.layout).removeprefix("torch.")
            raise InputShapeError(
                f"example input {index} of {name} is a {kind} tensor",
                why="an axis is cut by its position, which only dense tensors have",
                fix="pass a dense tensor, padded where needed (to_dense, to_padded_tensor, dequantize)",
            )
        if x.numel() == 0:
            raise InputShapeError(
                f"example input {index} of {name} is empty",
                why=f"its shape is {tuple(x.shape)}: there is nothing to compare the SuperNet with",
                fix="pass an example with at least one sample",
            )
    devices = {x.device for x in (*inputs.tensors, *model.parameters(), *model.buffers())}
    if len(devices) > 1:
        raise InputShapeError(
            f"{name} and its example inputs are not on one device",
            why=f"the model is on {_listed(model.parameters(), model.buffers())}, the inputs on "
            f"{_listed(inputs.tensors)}",
            fix="move both to one device: elastic(model.to(device), (x.to(device),))",
        )
    return inputs.map(lambda x: x.detach().clone())


def _check_modules(model: nn.Module) -> None:
    for path, module in model.named_modules():
        where = f"{type(model).__name__}.{path}" if path else type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise ElasticError(
                f"{where} is a TorchScript module",
                why="its weights and its code are compiled already",
                fix="pass the Python module it was scripted or traced from",
            )
        if ".quantized" in type(module).__module__ and type(module).__module__.startswith("torch."):
            raise ElasticError(
                f"{where} is quantised ({type(module).__module__}.{type(module).__name__})",
                why="its weights are packed for one kernel and cannot be cut",
                fix="compile the floating-point model and quantise the subnets that net.extract(config) returns",
            )


def _check_weights(model: nn.Module) -> None:
    for path, tensor in (*model.named_parameters(), *model.named_buffers()):
        where = f"{type(model).__name__}.{path}"
        if is_lazy(tensor):
            raise ElasticError(
                f"{where} has no shape yet",
                why="the module is lazy: its weights are made when it first runs",
                fix="run the model once on an example, then compile it",
            )
        if tensor.is_meta:
            raise ElasticError(
                f"{where} has no values",
                why="it is on the meta device, so its channels cannot be ranked nor its outputs compared",
                fix="load the model on a real device",
            )
        if tensor.layout is not torch.strided or tensor.is_quantized or is_traceable_wrapper_subclass(tensor):
            kind = type(tensor.data).__name__ if is_traceable_wrapper_subclass(tensor) else str(tensor.layout)
            raise ElasticError(
                f"{where} is stored as {'a quantised tensor' if tensor.is_quantized else kind}",
                why="only dense weights can be cut",
                fix="compile the model with dense weights (to_dense, dequantize)",
            )


def _attributes(model: nn.Module) -> Iterator[Tensor]:
    """Tensors in plain attributes of the module and all below it: cached activations, computed weights."""
    for module in model.modules():
        plain = {k: v for k, v in vars(module).items() if k not in {"_modules", "_parameters", "_buffers"}}
        yield from (leaf for leaf in pytree.tree_leaves(plain) if isinstance(leaf, Tensor))


def _listed(*groups: Any) -> str:
    return " and ".join(sorted({str(x.device) for group in groups for x in group})) or "no device"
