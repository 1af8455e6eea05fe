"""Batch norm in evaluation mode is affine per channel: fold it into the convolution or linear layer before it.

    s = gamma / sqrt(var + eps)
    y = s (W x + b - mean) + beta  =  (s W) x + s (b - mean) + beta

The folded bias takes the place of the running mean, the scale that of the running variance, so the program's signature
keeps its inputs. A batch norm with nothing to fold into becomes a multiply and an add.
"""

from __future__ import annotations

import operator

import torch
from torch import fx
from torch.export import ExportedProgram

from tailorbird.compile.node import aten
from tailorbird.errors import CompileError

_DECOMPOSED = aten._native_batch_norm_legit_no_training.default  # noqa: SLF001
_FOLDABLE = {aten.conv2d.default, aten.conv2d.padding, aten.conv1d.default, aten.linear.default}


def fold_batch_norm(program: ExportedProgram) -> ExportedProgram:
    """Fold every batch norm of a program in place and return it. Raises CompileError for one in training mode."""
    folder = _Folder(program)
    for node in list(program.graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.batch_norm.default:
            if node.args[5]:
                raise CompileError(
                    "a batch norm is in training mode", fix="call eval() on the subnet before compiling it"
                )
            folder.fold(node, node, eps=float(node.args[7]))
        elif node.target is _DECOMPOSED:
            for user in list(node.users):
                if user.target is operator.getitem and user.args[1] == 0:
                    folder.fold(node, user, eps=float(node.args[6]))
    program.graph.eliminate_dead_code()
    program.graph.lint()
    program.graph_module.recompile()
    return program


class _Folder:
    """Rewrites single batch norms of one program."""

    def __init__(self, program: ExportedProgram) -> None:
        signature = program.graph_signature
        self._program = program
        self._graph = program.graph
        self._names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}

    def fold(self, norm: fx.Node, output: fx.Node, *, eps: float) -> None:
        """Replace `output`, the value of `norm` (x, gamma, beta, mean, variance, ...), by folded arithmetic."""
        source, gamma, beta, mean, variance = norm.args[:5]
        assert isinstance(source, fx.Node)
        assert isinstance(mean, fx.Node)
        assert isinstance(variance, fx.Node)
        shift = self._value(mean).double()
        scale = (self._value(variance).double() + eps).rsqrt()
        if isinstance(gamma, fx.Node):
            scale = scale * self._value(gamma).double()
        offset = self._value(beta).double() if isinstance(beta, fx.Node) else torch.zeros_like(scale)
        own_statistics = len(mean.users) == 1 and len(variance.users) == 1
        weight = source.args[1] if source.target in _FOLDABLE else None
        alone = (
            isinstance(weight, fx.Node)
            and len(source.users) == 1
            and len(weight.users) == 1
            and weight.name in self._names
        )
        if alone and own_statistics:
            assert isinstance(weight, fx.Node)
            bias = source.args[2] if len(source.args) > 2 else None
            start = self._value(bias).double() if isinstance(bias, fx.Node) else torch.zeros_like(scale)
            kernel = self._value(weight)
            self._store(weight, (kernel.double() * scale.reshape(-1, *[1] * (kernel.dim() - 1))).to(kernel.dtype))
            self._store(mean, ((start - shift) * scale + offset).to(kernel.dtype))
            if len(source.args) > 2:
                source.update_arg(2, mean)
            else:
                source.insert_arg(2, mean)
            output.replace_all_uses_with(source)
        elif own_statistics:
            rank = source.meta["val"].dim()
            shape = (1, -1, *[1] * (rank - 2))
            dtype = source.meta["val"].dtype
            self._store(variance, scale.reshape(shape).to(dtype))
            self._store(mean, (offset - shift * scale).reshape(shape).to(dtype))
            with self._graph.inserting_before(norm):
                product = self._graph.call_function(aten.mul.Tensor, (source, variance))
                total = self._graph.call_function(aten.add.Tensor, (product, mean))
            product.meta["val"] = total.meta["val"] = source.meta["val"]
            output.replace_all_uses_with(total)
        else:
            raise CompileError(
                f"the batch norm after {source.name} shares its running statistics with another",
                fix="give each call its own BatchNorm module",
            )
        if output is not norm:
            self._graph.erase_node(output)
        self._graph.erase_node(norm)

    def _value(self, node: fx.Node) -> torch.Tensor:
        return self._program.state_dict[self._names[node.name]].detach()

    def _store(self, node: fx.Node, value: torch.Tensor) -> None:
        name = self._names[node.name]
        old = self._program.state_dict[name]
        self._program.state_dict[name] = torch.nn.Parameter(value) if isinstance(old, torch.nn.Parameter) else value
        example = node.meta["val"]
        if tuple(example.shape) != tuple(value.shape):
            node.meta["val"] = example.new_empty(value.shape)
