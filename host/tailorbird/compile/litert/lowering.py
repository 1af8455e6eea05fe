"""From an aten graph to a .tflite file.

Every tensor of rank 4 is stored as (N, H, W, C), whatever it means; all others as torch has them. The boundary keeps
torch's (N, C, H, W): one transpose at an image input, none where the network ends in (N, classes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import fx

from tailorbird.compile.capture import Network
from tailorbird.compile.fusion import activation_name, fused_activation
from tailorbird.compile.litert import layers
from tailorbird.compile.litert.flatbuffer import Operator, TfliteFile
from tailorbird.compile.node import shape_of
from tailorbird.errors import CompileError

TO_STORED = (0, 2, 3, 1)
TO_LOGICAL = (0, 3, 1, 2)
_STORED_AXIS = (0, 3, 1, 2)  # logical axis -> stored axis

Emit = Callable[["Lowering", fx.Node], int]
EMITTERS: dict[object, Emit] = {}
#: Operations whose emitter fuses the activation that follows.
FUSING: set[object] = set()


def emits(*targets: object, fuses: bool = False) -> Callable[[Emit], Emit]:
    """Register the emitter of aten operations; a fusing one reads `Lowering.activation`."""

    def register(emit: Emit) -> Emit:
        EMITTERS.update(dict.fromkeys(targets, emit))
        if fuses:
            FUSING.update(targets)
        return emit

    return register


def lower(network: Network) -> bytes:
    """Write a captured network as .tflite. Raises CompileError naming the first operation there is no emitter for."""
    lowering = Lowering(network)
    for node in network.graph.nodes:
        lowering.visit(node)
    return lowering.serialize()


class Lowering:
    """The file being written and where each node's value is in it."""

    def __init__(self, network: Network) -> None:
        self.file = TfliteFile("tailorbird")
        self.activation = ""  # what the operation being emitted has to fuse
        self._network = network
        self._constants = network.constants()
        self._index: dict[fx.Node, int] = {}
        self._parts: dict[fx.Node, Sequence[int]] = {}

    def visit(self, node: fx.Node) -> None:
        """Write one node, unless it was written as part of another."""
        if node in self._index or node in self._parts or node.op == "output":
            return
        if node.op == "placeholder":
            self._visit_placeholder(node)
            return
        emit = EMITTERS.get(node.target)
        if emit is None:
            raise CompileError(
                f"the .tflite writer has no operation for {node.target} ({node.name})",
                why="it writes convolutional networks; attention and other operations need the litert-torch converter",
                fix="compile this model for the tvm runtime",
            )
        self.activation, result = fused_activation(node) if node.target in FUSING else ("", node)
        try:
            self._index[result] = emit(self, node)
        except ValueError as error:
            raise CompileError(
                f"{node.target} ({node.name}) cannot be written as .tflite",
                why=str(error),
                fix="compile this model for the tvm runtime",
            ) from error

    def serialize(self) -> bytes:
        """The file, its outputs in torch's layout."""
        output = next(iter(reversed(self._network.graph.nodes)))
        nodes = output.args[0]
        assert isinstance(nodes, (tuple, list))
        pairs: list[tuple[str, int]] = []
        for spec, node in zip(self._network.outputs, nodes, strict=True):
            index = self.logical(node)
            # An output that is also an input or another output needs a tensor of its own.
            taken = {other for _, other in pairs} | {self._index[n] for n in self._index if n.op == "placeholder"}
            pairs.append((spec.name, self.copy(index) if index in taken else index))
        return self.file.serialize(pairs)

    # What emitters use.

    def stored(self, node: object) -> int:
        """Index of a node's value in the stored layout; parameters are written on first use."""
        assert isinstance(node, fx.Node)
        if node not in self._index:
            value = self._constants[node.name].numpy()
            self._index[node] = self.file.constant(value.transpose(TO_STORED) if value.ndim == 4 else value)
        return self._index[node]

    def logical(self, node: object) -> int:
        """Index of a node's value in torch's axis order."""
        index = self.stored(node)
        return layers.transpose(self.file, index, TO_LOGICAL) if len(self.file.shape(index)) == 4 else index

    def store(self, index: int) -> int:
        """Bring a value in torch's axis order into the stored layout."""
        return layers.transpose(self.file, index, TO_STORED) if len(self.file.shape(index)) == 4 else index

    def operand(self, value: object, rank: int) -> int:
        """A node or Python number as an operand that broadcasts, by torch's rules, to a value of the given rank."""
        if isinstance(value, (int, float)):
            return self.file.constant(np.array(value, np.float32))
        shape = shape_of(value)
        if len(shape) == rank or len(shape) == 0:
            return self.stored(value)
        widened = (*[1] * (rank - len(shape)), *shape)
        return self.store(layers.reshape(self.file, self.logical(value), widened))

    def constant(self, node: object) -> np.ndarray:
        """Value of a parameter. Raises ValueError for a computed value: TFLite wants weights in the file."""
        if not isinstance(node, fx.Node) or node.name not in self._constants:
            raise ValueError("its weights are computed by the network")
        return self._constants[node.name].numpy()

    def copy(self, index: int) -> int:
        """A tensor of the same value that is nobody else's."""
        zero = self.file.constant(np.zeros((), np.dtype(self.file.dtype(index))))
        return layers.binary(self.file, Operator.ADD, index, zero)

    def set_parts(self, node: fx.Node, parts: Sequence[int]) -> None:
        """Record the values of a node that returns several; `operator.getitem` picks them."""
        self._parts[node] = parts

    def part(self, node: object, position: int) -> int:
        """One of the values of a node that returns several."""
        assert isinstance(node, fx.Node)
        return self._parts[node][position]

    def _visit_placeholder(self, node: fx.Node) -> None:
        spec = next((spec for spec in self._network.inputs if spec.name == node.name), None)
        if spec is None:
            return
        if spec.datatype != "FP32":
            raise CompileError(
                f"input {spec.name} is {spec.datatype}",
                why="the .tflite writer takes float32 images",
                fix="compile this model for the tvm runtime",
            )
        self._index[node] = self.store(self.file.input(spec.name, spec.shape))


def stored_axis(axis: int, rank: int) -> int:
    """Where a logical axis (may be negative) is in the stored layout."""
    axis %= rank
    return _STORED_AXIS[axis] if rank == 4 else axis


def is_non_negative(node: object) -> bool:
    """Whether a value is known to be at least zero: it is the output of a rectifier."""
    return isinstance(node, fx.Node) and activation_name(node) in {"relu", "relu6"}
