"""Relax rewrites that TVM's own passes lack, or do slowly."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from tailorbird.compile.tvm.api import Module, relax, tvm

_functor: Any = importlib.import_module("tvm.relax.expr_functor")


def fold_weight_layouts(mod: Module) -> Module:
    """Evaluate transposes and reshapes of constants with numpy. FoldConstant compiles a kernel for each: 40 ms."""
    return relax.transform.CanonicalizeBindings()(_apply(_WeightLayoutFolder(mod), mod))


def split_clips(mod: Module) -> Module:
    """Rewrite clip as maximum and minimum: ConvertLayout does not know clip and would transpose around each ReLU6."""
    return _apply(_ClipSplitter(mod), mod)


def _apply(rewriter: Any, mod: Module) -> Module:
    for variable, function in mod.functions.items():
        if isinstance(function, relax.Function):
            rewriter.builder_.update_func(variable, rewriter.visit_expr(function))
    return rewriter.builder_.get()


@_functor.mutator
class _WeightLayoutFolder(_functor.PyExprMutator):
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if not isinstance(call.op, tvm.ir.Op) or not call.args:
            return call
        operand = call.args[0]
        if isinstance(operand, relax.Var):
            operand = self.lookup_binding(operand)
        if not isinstance(operand, tvm.ir.GenericConst):
            return call
        if call.op.name == "relax.permute_dims":
            axes = call.attrs.axes
            order = None if axes is None else [int(axis) for axis in axes]
            return relax.const(np.ascontiguousarray(operand.value.numpy().transpose(order)))
        if call.op.name in {"relax.reshape", "relax.expand_dims"}:
            return relax.const(operand.value.numpy().reshape([int(extent) for extent in call.ty.shape]))
        return call


@_functor.mutator
class _ClipSplitter(_functor.PyExprMutator):
    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        if not isinstance(call.op, tvm.ir.Op) or call.op.name != "relax.clip":
            return call
        value, low, high = call.args
        bounds = [float(bound.value) for bound in (low, high)]
        dtype = tvm.runtime.DataType(value.ty.dtype)
        if bounds[0] == 0.0:
            lower = self.builder_.emit(relax.op.nn.relu(value))
        else:
            lower = self.builder_.emit(relax.op.maximum(value, relax.const(bounds[0], str(dtype))))
        return relax.op.minimum(lower, relax.const(bounds[1], str(dtype)))
