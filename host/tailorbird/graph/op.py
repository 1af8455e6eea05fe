"""Ops: their short names, and which of them look into the memory of their operand."""

from __future__ import annotations

from torch.fx import Node

# Ops whose result may share memory with their first argument (dropout returns it as it is in eval mode).
VIEWS = frozenset(
    {
        *("view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "swapaxes", "movedim", "view_as"),
        *("squeeze", "unsqueeze", "expand", "expand_as", "slice", "select", "narrow", "unbind", "unfold", "reshape_as"),
        *("split", "split_with_sizes", "chunk", "tensor_split", "detach", "alias", "contiguous", "to", "type_as"),
        *("dropout", "feature_dropout", "alpha_dropout", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        *("meshgrid", "broadcast_tensors", "pad"),
    }
)


def op_name(node: Node) -> str:
    """Short name of the op a node calls: `conv2d` for ATen ops, `library::op` for all others."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return str(schema.name).removeprefix("aten::")


def may_alias(node: Node) -> bool:
    """Whether the result of a call may be another name for memory of its operand: known for it, or declared so."""
    schema = getattr(node.target, "_schema", None)
    declared = [] if schema is None else [argument.alias_info for argument in schema.arguments]
    return op_name(node) in VIEWS or any(info is not None and not info.is_write for info in declared)
