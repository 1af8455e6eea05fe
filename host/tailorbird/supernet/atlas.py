"""Atlas: the graph of a SuperNet to be drawn: operators in the user's modules, coloured by what shrinks together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.fx import Node

from tailorbird.graph import Atom, Dim, ElasticGraph, line_of, modules_of, op_name
from tailorbird.supernet.report import ElasticDimension

ATLAS_SCHEMA = "tailorbird.atlas/1"
#: Dimensions whose entries are no channels: they colour nothing, but light up what they change.
_COLOURLESS = frozenset({"kernel", "depth", "resolution"})


@dataclass(frozen=True, slots=True)
class Band:
    """Part of an operator's output: entries of one elastic dimension by its index in the report, -1 for fixed ones."""

    dimension: int
    size: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module. parent: index of the call around it, -1 for the network itself; kind: class name."""

    path: str
    kind: str
    parent: int


@dataclass(frozen=True, slots=True)
class Operator:
    """An input, an operator or the output.

    call: index of the module call that runs it, -1 for the network itself; module: its module where that does nothing
    else; bands: what its output is made of; dimensions: all that its weights and its output follow; pin: why nothing of
    its output can shrink; line: of the user's code.
    """

    name: str
    op: str
    call: int
    module: str
    kind: str
    shape: str
    bands: tuple[Band, ...]
    dimensions: tuple[int, ...]
    pin: str
    line: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Area:
    """A block that can be skipped: its index in the report and the operators that go with it."""

    dimension: int
    operators: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Atlas:
    """Operators in running order; edges from operator to operator by index."""

    calls: tuple[Call, ...]
    operators: tuple[Operator, ...]
    edges: tuple[tuple[int, int], ...]
    areas: tuple[Area, ...]
    schema: str = ATLAS_SCHEMA


def draw(graph: ElasticGraph, dimensions: Iterable[ElasticDimension]) -> Atlas:
    """The atlas of a network whose report has these dimensions."""
    drawing = _Drawing(graph, {d.name: (index, d) for index, d in enumerate(dimensions)})
    for node in graph.graph.nodes:
        drawing.add(node)
    return drawing.finished()


@dataclass
class _Drawing:
    graph: ElasticGraph
    known: Mapping[str, tuple[int, ElasticDimension]]
    calls: list[Call] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    edges: dict[tuple[int, int], None] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)
    _own: dict[Node, int] = field(default_factory=dict)
    _where: dict[Node, tuple[int, ...]] = field(default_factory=dict)  # the operators a node's value comes from

    def __post_init__(self) -> None:
        groups = [(group.atom, group.name) for group in self.graph.groups]
        kernels = [(atom, k.name) for k in self.graph.kernels for atom in k.atoms if atom is not None]
        offered = [(atom, *self.known[name]) for atom, name in (*groups, *kernels) if name in self.known]
        self._atoms: dict[Atom, int] = {atom: index for atom, index, _ in offered}
        self._colours = {atom: index for atom, index, dimension in offered if dimension.kind not in _COLOURLESS}

    def add(self, node: Node) -> None:
        """Draw a node, unless it is a stored tensor, a constant or a mere choice among several results."""
        origins = (self._where.get(operand, ()) for operand in node.all_input_nodes)
        sources = tuple(dict.fromkeys(itertools.chain.from_iterable(origins)))
        if node.op == "get_attr" or (node.op == "call_function" and not sources and not self._weights(node)):
            return
        if node.op == "call_function" and op_name(node) == "getitem":
            self._where[node] = sources
            return
        index = len(self.operators)
        self._own[node] = index
        self._where[node] = (index,)
        self.edges |= dict.fromkeys((source, index) for source in sources)
        self.operators.append(self._operator(node))

    def _operator(self, node: Node) -> Operator:
        dims = self._dims(node)
        bands = self._bands(dims)
        weights = self._weights(node)
        stored = (dim for name in weights for dim in self.graph.stored[name])
        value = node.meta.get("val")
        shape = value.shape if isinstance(value, Tensor) else ()
        return Operator(
            name=str(node.target) if node.op == "placeholder" else node.name,
            op="input" if node.op == "placeholder" else "output" if node.op == "output" else op_name(node),
            call=self._enter(node),
            module="",
            kind="",
            shape=" x ".join("N" if size == self._batch else str(int(size)) for size in shape),
            bands=bands,
            dimensions=tuple(sorted({self._atoms[atom] for atom in _atoms((*dims, *stored)) if atom in self._atoms})),
            pin="" if any(band.dimension >= 0 for band in bands) else self._pin(dims),
            line=line_of(node),
            parameters=sum(self.graph.tensors[name].numel() for name in weights if name in self.graph.parameters),
        )

    def _dims(self, node: Node) -> tuple[Dim, ...]:
        """Dims of a node's value; of one with several results, those of the first that is used."""
        known = self.graph.dims
        return known.get(node) or next(
            (known[user] for user in node.users if op_name(user) == "getitem" and user in known), ()
        )

    @property
    def _batch(self) -> int | None:
        return None if self.graph.batch is None else self.graph.batch.size

    def _weights(self, node: Node) -> list[str]:
        names = [str(operand.target) for operand in node.all_input_nodes if operand.op == "get_attr"]
        return [name for name in names if self.graph.tensors[name].is_floating_point()]

    def _bands(self, dims: tuple[Dim, ...]) -> tuple[Band, ...]:
        """The make-up of the first axis that can shrink; of none when nothing can."""
        for dim in dims:
            parts = [(self._first(segment), self._size(segment)) for segment in dim]
            if any(index >= 0 for index, _ in parts):
                joined = itertools.groupby(parts, key=lambda part: part[0])
                return tuple(Band(index, sum(size for _, size in run)) for index, run in joined)
        return ()

    def _first(self, segment: tuple[Atom, ...]) -> int:
        return next((self._colours[atom] for atom in segment if atom in self._colours), -1)

    @staticmethod
    def _size(segment: tuple[Atom, ...]) -> int:
        size = 1
        for atom in segment:
            size *= 1 if atom.batch else atom.size
        return size

    def _pin(self, dims: tuple[Dim, ...]) -> str:
        pins = [atom.pin for atom in _atoms(dims) if atom.pin is not None and atom.pin.op and not atom.batch]
        return f"{pins[0].reason} ({pins[0].op})" if pins else ""

    def _enter(self, node: Node) -> int:
        """The call a node runs in; calls are runs of nodes, so that no call waits for what comes after it."""
        found = modules_of(node)
        path = found[-1][0] if found else ""
        kinds = dict(found)
        parts = path.split(".") if path else []
        names = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        depth = 0
        while depth < len(names) and depth < len(self._open) and self.calls[self._open[depth]].path == names[depth]:
            depth += 1
        del self._open[depth:]
        for name in names[depth:]:
            self._open.append(len(self.calls))
            parent = self._open[-2] if len(self._open) > 1 else -1
            self.calls.append(Call(name, kinds.get(name, ""), parent))
        return self._open[-1] if self._open else -1

    def finished(self) -> Atlas:
        areas = []
        for block in self.graph.blocks:
            if block.name in self.known:
                body = {self._own[node] for node in block.body if node in self._own}
                areas.append(Area(self.known[block.name][0], tuple(sorted(body))))
        return _folded(self.calls, self.operators, tuple(self.edges), tuple(areas))


def _atoms(dims: Iterable[Dim]) -> Iterator[Atom]:
    return itertools.chain.from_iterable(itertools.chain.from_iterable(dims))


def _folded(
    calls: list[Call], operators: list[Operator], edges: tuple[tuple[int, int], ...], areas: tuple[Area, ...]
) -> Atlas:
    """Fold calls away that say nothing: of a single operator, and of a single call and nothing else."""
    content: dict[int, int] = {}
    for operator in operators:
        content[operator.call] = content.get(operator.call, 0) + 1
    for call in calls:
        content[call.parent] = content.get(call.parent, 0) + 1
    alone = {o.call for o in operators if o.call >= 0 and content[o.call] == 1}
    chained = {c.parent for c in calls if c.parent >= 0 and content[c.parent] == 1}
    gone = alone | chained

    def outer(index: int) -> int:
        while index in gone:
            index = calls[index].parent
        return index

    kept = [index for index in range(len(calls)) if index not in gone]
    place = {-1: -1, **{index: new for new, index in enumerate(kept)}}
    return Atlas(
        tuple(replace(calls[index], parent=place[outer(calls[index].parent)]) for index in kept),
        tuple(
            replace(
                o,
                call=place[outer(o.call)],
                module=calls[o.call].path if o.call in alone else "",
                kind=calls[o.call].kind if o.call in alone else "",
            )
            for o in operators
        ),
        edges,
        areas,
    )
