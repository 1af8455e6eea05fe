"""Sizes: a SuperNet at other image sizes and sequence lengths than those of its example.

The user's own module says what it can do: it is run, captured and analysed again at the sizes of a call, once for each,
and the new capture must compute what the module computes. All captures share one set of weights.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tailorbird.errors import ElasticError, InputShapeError
from tailorbird.graph import ElasticGraph, Group, Inputs, Mode, Pin, kept_state, plain, trace, trace_rigid
from tailorbird.supernet.agree import ROUNDING, agree, at_another_batch
from tailorbird.supernet.sized import Sized
from tailorbird.types import Config

if TYPE_CHECKING:
    from tailorbird.supernet.supernet import SuperNet

_KEPT = 8  # captures at other sizes; each holds graphs, no weights


class Sizes:
    """All captures of a network: the first one for good, of the others the most recently used."""

    def __init__(self, net: SuperNet, graph: ElasticGraph) -> None:
        self._net = net
        self.base = Sized(net, graph)
        self._others: list[Sized] = []

    def __iter__(self) -> Iterator[Sized]:
        return iter((self.base, *self._others))

    def find(self, leaves: Sequence[Any]) -> Sized | None:
        """The capture for inputs of these sizes, if there is one."""
        found = next((sized for sized in self if sized.fits(leaves)), None)
        if found is not None and found is not self.base:
            self._others.remove(found)
            self._others.append(found)
        return found

    def add(self, leaves: Sequence[Any]) -> Sized:
        """Capture the network at the sizes of these inputs.

        Raises: InputShapeError when the user's module does not run on them; ElasticError when its capture computes
        something else.
        """
        net = self._net
        inputs = Inputs(*pytree.tree_unflatten(list(leaves), net.example.structure))
        with (
            torch.inference_mode(mode=False),
            torch.compiler.set_stance("force_eager"),
            torch.autocast(net.device.type, enabled=False),
            untouched(net.weights),
        ):
            own = inputs.map(lambda x: x.detach().clone())
            expected = answer(net.weights, own, net.report.model)
            graph = trace(net.weights, own)
            found = self._sized(graph)
            if graph.batch is not None and not _follows_the_batch(found, net.weights, own):
                found = self._sized(trace_rigid(net.weights, own, Pin("self-check", "outputs differ at another batch")))
            if not agree(expected, _run(found, own), **ROUNDING):
                raise ElasticError(
                    f"{net.report.model} does not compute the same once captured at {described(own)}",
                    why="its output depends on state that the captured graph does not hold",
                    fix="keep to the sizes of the example inputs",
                )
        self._others = [*self._others, found][-_KEPT:]
        return found

    def _sized(self, graph: ElasticGraph) -> Sized:
        return Sized(self._net, graph, differences(self.base.graph, graph))


def differences(base: ElasticGraph, other: ElasticGraph) -> frozenset[str]:
    """Names of groups, kernels and blocks of `base` that `other` does not have in the same place."""
    groups = {_place(group, other) for group in other.groups}
    kernels = {(kernel.name, kernel.weight, kernel.full, kernel.smallest) for kernel in other.kernels}
    blocks = {(block.name, _weights(block.body)) for block in other.blocks}
    return frozenset(
        (
            *(group.name for group in base.groups if _place(group, base) not in groups),
            *(k.name for k in base.kernels if (k.name, k.weight, k.full, k.smallest) not in kernels),
            *(b.name for b in base.blocks if (b.name, _weights(b.body)) not in blocks),
        )
    )


def _place(group: Group, graph: ElasticGraph) -> Hashable:
    """Everything that says which entries of which tensors a group's indices are."""

    def layout(name: str, axis: int) -> Hashable:
        return tuple(tuple((a.size, a is group.atom) for a in segment) for segment in graph.stored[name][axis])

    uses = frozenset((name, axis, layout(name, axis)) for name, axis in group.uses)
    return group.name, group.kind, group.atom.size, uses


def _weights(body: Any) -> frozenset[str]:
    found = (operand for node in body for operand in node.all_input_nodes)
    return frozenset(str(node.target) for node in found if node.op == "get_attr" and "." in str(node.target))


def answer(model: nn.Module, inputs: Inputs, name: str) -> Any:
    """What the user's module answers. Raises: InputShapeError when it does not run on inputs of these sizes."""
    try:
        with torch.no_grad(), kept_state(model):
            return pytree.tree_map_only(Tensor, torch.clone, plain(inputs.call(model))[0])
    except Exception as error:
        text = str(error).strip().splitlines()
        raise InputShapeError(
            f"{name} does not run on {described(inputs)}",
            why=f"{type(error).__name__}: {text[0] if text else 'no message'}",
            fix="pass inputs of a size that the model takes",
        ) from error


def described(inputs: Inputs) -> str:
    """Types and shapes for a message."""
    return ", ".join(f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" for x in inputs.tensors)


def _run(sized: Sized, inputs: Inputs) -> Any:
    with torch.no_grad():
        return sized.run(Config(), Mode.EVAL, inputs.map(torch.clone).leaves, {})


def _follows_the_batch(sized: Sized, model: nn.Module, inputs: Inputs) -> bool:
    """Whether the capture agrees with the module at a batch that was neither traced nor given."""
    other = at_another_batch(inputs)
    try:
        with torch.no_grad():
            return agree(plain(other.call(model))[0], _run(sized, other), rtol=1e-4, atol=1e-5)
    except Exception:
        return False


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """The module in eval mode for a while; modes, attributes and buffers (counters of calls) are put back."""
    modes = {module: module.training for module in model.modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    model.eval()
    try:
        with kept_state(model):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, value in model.named_buffers():
                if not torch.equal(value, buffers[name]):
                    value.copy_(buffers[name])
