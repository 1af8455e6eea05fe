"""Agreement: does the compiled network compute what the user's does?"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils import _pytree as pytree

from tailorbird.errors import ElasticError, InputShapeError
from tailorbird.graph import ElasticGraph, Inputs, error_origin, node_origin, op_name, plain
from tailorbird.supernet.agree import ROUNDING, agree, at_another_batch
from tailorbird.supernet.supernet import SuperNet

_RANDOM_IF = {  # position of the argument that makes the op draw random numbers
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "native_dropout"), 2),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), 6),
    "scaled_dot_product_attention": 4,
    "rrelu": 3,
}


def expected_outputs(model: nn.Module, inputs: Inputs) -> tuple[tuple[Any, Any], tuple[str, ...]]:
    """What the user's module answers to the inputs, twice, and the types of what had to be left out of the answer.

    The module itself is left as it is.

    Raises: InputShapeError when it does not run; ElasticError when it returns nothing that is a tensor.
    """
    name, probe = type(model).__name__, copy.deepcopy(model)
    try:
        with torch.no_grad():
            first, second = (_detached(plain(inputs.call(probe))) for _ in range(2))
    except Exception as error:
        line = error_origin(error)
        raise InputShapeError(
            f"{name} does not run on the example inputs" + (f": it fails at {line}" if line else ""),
            why=f"{type(error).__name__}: {error}",
            fix=f"check that model(*example_inputs) runs; got {_described(inputs)}",
        ) from error
    output, left_out = first
    if left_out and not any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(output)):
        raise ElasticError(
            f"{name} returns a {left_out[0]}, which holds no tensors as far as PyTorch knows",
            why=f"the object comes from {_forward(model)}",
            fix="return tensors in tuples, lists, dicts or data classes, or tell PyTorch what the class holds "
            "(torch.utils._pytree.register_pytree_node)",
        )
    return (output, second[0]), left_out


def check_repeatable(answers: tuple[Any, Any], name: str, graph: ElasticGraph) -> None:
    """Raises: ElasticError when two answers to one input differ, naming the random op if there is one."""
    if agree(*answers):
        return
    random = next((node for node in graph.graph.nodes if _is_random(node)), None)
    if random is None and agree(*answers, **ROUNDING):  # kernels that sum in any order
        return
    line = node_origin(random) if random is not None else ""
    raise ElasticError(
        f"{name} answers the same input differently each time, in eval mode" + (f": {line}" if line else ""),
        why="it keeps state between calls" if random is None else f"the op {op_name(random)} draws random numbers",
        fix="make the eval-mode forward pass a function of its inputs and weights "
        "(F.dropout(..., training=self.training), no noise, no counters that change the answer)",
    )


def _is_random(node: Node) -> bool:
    if node.op != "call_function" or torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    position = _RANDOM_IF.get(op_name(node))
    return position is None or bool(node.args[position])


def any_batch(net: SuperNet, model: nn.Module, inputs: Inputs) -> bool:
    """Whether the compiled network follows the user's at a batch size other than the traced one and the example's.

    Every size in the graph is affine in the batch, so the trace, the example (`compare`) and one more batch settle it.
    """
    other = at_another_batch(inputs)
    try:
        with torch.no_grad():
            expected = plain(other.call(copy.deepcopy(model)))[0]
            return agree(expected, other.call(net.eval()), rtol=1e-4, atol=1e-5)
    except Exception:
        return False


def compare(net: SuperNet, expected: Any, inputs: Inputs) -> tuple[str, ...]:
    """Check the promise that the full configuration is the user's network; what to note if it is so to rounding only.

    Raises: ElasticError when it is not.
    """
    with torch.no_grad():
        found = inputs.call(net.eval())
    if agree(expected, found):
        return ()
    if agree(expected, found, **ROUNDING):
        return ("the full configuration equals the model to rounding, not bitwise: eager mode takes a fused path",)
    raise ElasticError(
        f"{net.report.model} does not compute the same once captured",
        why="its output depends on state that the captured graph does not hold, or on the way it is called",
        fix="make the eval-mode forward pass a function of inputs and weights alone",
    )


def _detached(output: Any) -> Any:
    """A copy that later calls of a module that reuses its memory do not change."""
    return pytree.tree_map_only(Tensor, lambda x: x.detach().clone(), output)


def _described(inputs: Inputs) -> str:
    return ", ".join(f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" for x in inputs.tensors)


def _forward(model: nn.Module) -> str:
    code = getattr(type(model).forward, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno} in forward" if code else f"forward of {type(model).__name__}"
