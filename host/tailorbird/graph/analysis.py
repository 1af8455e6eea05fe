"""Analysis: walk a captured graph once, apply the rule of every op, and collect the dims of every tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.fx import Node

from tailorbird.graph.algebra import (
    FIXED,
    UNIT,
    Algebra,
    Atom,
    Dim,
    Dims,
    Pin,
    atom_dim,
    is_pinned,
    iter_atoms,
    pin,
    resolve,
    same,
)
from tailorbird.graph.capture import Capture, op_name
from tailorbird.graph.origin import line_of
from tailorbird.graph.registry import RULES, Result, Several, Shape, UnknownError


@dataclass(frozen=True, slots=True)
class Resize:
    """An integer argument that follows a dim, or a list of them: re-evaluated for every configuration and batch."""

    position: int
    sizes: Dims
    is_list: bool


@dataclass(frozen=True, slots=True)
class Score:
    """A product of two activations over `contracted`, once for each entry of the leading axes (batch, heads)."""

    node: Node
    contracted: Dim
    leading: Dims


_SCALED = "scores are scaled by the full size of this axis"


@dataclass
class Analysis:
    """Dims of every tensor of a graph, while rules refine them.

    `roles` are claims on atoms that name the kind of a dimension ("heads"); `resizes` the integer arguments that follow
    dims; `pinned_ops` the ops without a rule and the reason each was pinned.
    """

    capture: Capture
    algebra: Algebra = field(default_factory=Algebra)
    batch: Atom | None = None
    tensor_dims: dict[str, Dims] = field(default_factory=dict)
    roles: list[tuple[str, Dim]] = field(default_factory=list)
    resizes: dict[Node, tuple[Resize, ...]] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    pinned_ops: dict[Node, Pin] = field(default_factory=dict)
    _found: dict[Node, Result | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.capture.batch is not None:
            self.batch = Atom(self.capture.batch, Pin("input", "the batch"), batch=True)
        for node in self.capture.graph.nodes:
            self._visit(node)
        self._settle_scores()

    # -- what rules read

    def dims(self, node: Any) -> Dims:
        """Dims of a tensor operand. Raises UnknownError when it is no single tensor."""
        found = self._found.get(node)
        if found is None or isinstance(found, Several):
            raise UnknownError("an operand is no tensor")
        return found

    def result(self, node: Any, index: int) -> Dims:
        """Dims of one result of an op with several."""
        found = self._found.get(node)
        item = found.dims[index] if isinstance(found, Several) else None
        if item is None:
            raise UnknownError("an operand is no tensor")
        return item

    def shape(self, node: Any) -> Shape:
        """Recorded shape of a tensor operand, at the trace batch."""
        value = node.meta.get("val") if isinstance(node, Node) else None
        if value is None and isinstance(node, Node) and node.op == "get_attr":
            value = self.capture.tensors[str(node.target)]
        if not isinstance(value, Tensor):
            raise UnknownError("an operand is no tensor")
        return tuple(int(size) for size in value.shape)

    def tensors(self) -> Iterator[tuple[Node, Dims]]:
        """Every node that is a single tensor, with its dims."""
        for node, found in self._found.items():
            if found is not None and not isinstance(found, Several):
                yield node, found

    def is_tensor(self, node: Any) -> bool:
        """Whether an argument is a tensor of the graph."""
        return isinstance(node, Node) and (node.op == "get_attr" or isinstance(node.meta.get("val"), Tensor))

    # -- what rules say

    def unify(self, left: Dim, right: Dim, node: Node) -> None:
        """Two axes keep the same indices, because of this op."""
        self.algebra.unify(left, right, Pin(op_name(node), "axes of different make-up meet here", line_of(node)))

    def pin(self, dim: Dim, node: Node, reason: str) -> None:
        """An axis keeps its full size, because of this op."""
        pin(dim, Pin(op_name(node), reason, line_of(node)))

    def fix(self, dim: Dim) -> None:
        """An axis keeps its full size by nature (a kernel, an image): nothing to report."""
        pin(dim, FIXED)

    def resize(self, node: Node, position: int, dim: Dim) -> None:
        """The integer argument at `position` follows a dim."""
        self.resizes[node] = (*self.resizes.get(node, ()), Resize(position, (dim,), is_list=False))

    def resize_list(self, node: Node, position: int, dims: Dims) -> None:
        """The list of integers at `position` follows dims, one for each entry."""
        self.resizes[node] = (*self.resizes.get(node, ()), Resize(position, dims, is_list=True))

    def constant(self, size: int) -> Dim:
        """A new axis that no configuration changes. A multiple of the trace batch is taken to follow the batch."""
        if self.batch is None or size % self.batch.size or size == 0:
            return atom_dim(Atom(size, FIXED)) if size != 1 else UNIT
        rest = size // self.batch.size
        return ((self.batch,),) if rest == 1 else ((self.batch, Atom(rest, FIXED)),)

    def constants(self, node: Node) -> Dims:
        """New constant axes for the result of an op."""
        return tuple(map(self.constant, self.shape(node)))

    def is_constant(self, dim: Dim) -> bool:
        """Whether neither a configuration nor the batch changes this axis."""
        return is_pinned(dim) and not self.follows_batch(dim)

    def free(self, size: int) -> Dim:
        """A new axis of equal entries, which may follow whatever it meets. A multiple of the trace batch follows that.

        For sizes above 1 the op must follow the axis with `resize`.
        """
        if self.batch is None or size % self.batch.size or size == 0:
            return atom_dim(Atom(size, None if size else FIXED)) if size != 1 else UNIT
        rest = size // self.batch.size
        return ((self.batch,),) if rest == 1 else ((self.batch, Atom(rest)),)

    def follows_batch(self, dim: Dim) -> bool:
        """Whether the size of this axis depends on the batch."""
        return self.batch is not None and any(self.batch in segment for segment in resolve(dim))

    def factor(self, dim: Dim, sizes: Sequence[int], node: Node) -> list[Dim]:
        """Split one axis into a row-major product of the given sizes. Raises UnknownError when it cannot be."""
        found = self.algebra.factor(dim, sizes, Pin(op_name(node), "axes of different make-up meet here"))
        if found is None:
            raise UnknownError("the axis is no product of these sizes")
        return found

    def same(self, left: Dim, right: Dim) -> bool:
        """Whether two axes already keep the same indices."""
        return same(left, right)

    def score(self, node: Node, contracted: Dim, leading: Dims) -> None:
        """The op multiplies queries and keys. Where there are several heads they shrink, and their size stays.

        With a single head (or heads that are pinned) the size of the queries is elastic: the network multiplies by a
        constant of the full size, so dropping an index is exactly what zeroing it would be.
        """
        self.scores.append(Score(node, contracted, leading))

    def _settle_scores(self) -> None:
        """Whether heads can shrink is known only after the walk."""
        stored = {atom for dims in self.tensor_dims.values() for dim in dims for atom in iter_atoms(resolve(dim))}
        able = {atom for atom in stored if atom.pin is None}
        heads = [
            {atom for dim in score.leading for atom in iter_atoms(resolve(dim)) if atom in able}
            for score in self.scores
        ]
        for score, elastic in zip(self.scores, heads, strict=True):
            if elastic:
                self.pin(score.contracted, score.node, _SCALED)
                self.roles += [("heads", atom_dim(atom)) for atom in elastic]

    # -- the walk

    def _visit(self, node: Node) -> None:
        if node.op == "placeholder":
            self._found[node] = self._input_dims(node)
        elif node.op == "get_attr":
            self._found[node] = self._stored_dims(str(node.target))
        elif node.op == "output":
            for operand in node.all_input_nodes:
                self._pin_all(operand, Pin("output", "an output of the network"))
        else:
            self._apply_rule(node)

    def _apply_rule(self, node: Node) -> None:
        name = op_name(node)
        known = RULES.get(name) or RULES.get(name.removesuffix("_")) or _no_rule
        try:
            self._found[node] = known(self, node)
        except Exception as error:  # a use that no one foresaw is pinned like an unknown op, and reported
            known_limit = isinstance(error, UnknownError)
            reason = str(error) if known_limit else f"its rule does not cover this use ({error!r})"
            why = Pin(name, reason, line_of(node))
            self.pinned_ops[node] = why
            for operand in node.all_input_nodes:
                self._pin_all(operand, why)
            self._follow_batch(node)
            self._found[node] = self._fresh(node.meta.get("val"))

    def _follow_batch(self, node: Node) -> None:
        """Lists of sizes given to an op without a rule: an entry that is a multiple of the trace batch follows it."""
        for position, argument in enumerate(node.args):
            if self.batch is None or not isinstance(argument, list | tuple) or not argument:
                continue
            if all(type(entry) is int and entry >= 0 for entry in argument):
                sizes: Any = argument
                if any(size and size % self.batch.size == 0 for size in sizes):
                    self.resize_list(node, position, tuple(map(self.constant, sizes)))

    def _fresh(self, value: Any) -> Result | None:
        if isinstance(value, list | tuple):
            return Several(tuple(map(self._fresh_dims, value)))
        return self._fresh_dims(value)

    def _fresh_dims(self, value: Any) -> Dims | None:
        return tuple(self.constant(int(size)) for size in value.shape) if isinstance(value, Tensor) else None

    def _input_dims(self, node: Node) -> Dims | None:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            return None
        why = Pin("input", "an input of the network")
        return tuple(
            self.constant(size) if self.batch and size == self.batch.size else atom_dim(Atom(int(size), why))
            for size in value.shape
        )

    def _stored_dims(self, name: str) -> Dims:
        if name not in self.tensor_dims:
            shape = self.capture.tensors[name].shape
            self.tensor_dims[name] = tuple(atom_dim(Atom(size, None if size else FIXED)) for size in shape)
        return self.tensor_dims[name]

    def _pin_all(self, node: Node, why: Pin) -> None:
        found = self._found.get(node)
        every: tuple[Dims | None, ...] = found.dims if isinstance(found, Several) else (found,)
        for dims in every:
            for dim in dims or ():
                pin(dim, why)


def _no_rule(_analysis: Analysis, node: Node) -> Result:
    raise UnknownError(f"no rule for {node.target}")
