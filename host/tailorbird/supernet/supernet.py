"""SuperNet: a network and all its subnets over one set of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from tailorbird.errors import InputShapeError
from tailorbird.graph import (
    CriticalPath,
    ElasticGraph,
    Inputs,
    Mode,
    Shapes,
    bind,
    count_macs,
    count_parameters,
    critical_path,
    peak_activation_bytes,
    plain,
)
from tailorbird.supernet.checkpoint import load, save
from tailorbird.supernet.extract import adopt, extract
from tailorbird.supernet.kernel_transforms import KernelTransforms
from tailorbird.supernet.learnt import Learnt
from tailorbird.supernet.options import Options
from tailorbird.supernet.ranking import Loss, rank
from tailorbird.supernet.recalibrate import recalibrate
from tailorbird.supernet.recent import Recent
from tailorbird.supernet.report import Report
from tailorbird.supernet.resolution import Resolution, height_of
from tailorbird.supernet.selection import Selection
from tailorbird.supernet.sized import Sized, Statistics
from tailorbird.supernet.sizes import Sizes
from tailorbird.supernet.space import SearchSpace
from tailorbird.supernet.training import FitResult, TunedSubnet, fine_tune, fit
from tailorbird.types import Config

_STATISTICS = 256  # recalibrated configurations kept

Example = Inputs | tuple[Any, ...] | Mapping[str, Any]


class SuperNet(nn.Module):
    """The user's network with elastic dimensions; made by `elastic()`.

    `net(x)` is the user's network, bitwise. `net(x, config=cfg)` is a subnet: its weights are slices of the shared
    ones, gradients flow into them.

    In train mode the full configuration runs the user's own module in train mode: dropout of every kind, stochastic
    depth, auxiliary outputs and updates of running statistics are the user's. A subnet runs the graph captured in eval
    mode, in which batch_norm now uses the statistics of the batch and dropout drops. It updates no running statistics,
    since those of a subnet belong to no stored buffer (`recalibrate` finds them), and what eval mode leaves out of the
    graph altogether stays out: stochastic depth, dropout inside fused attention, auxiliary heads. A subnet has little
    to spare for them: regularise the full network alone (Yu et al., "BigNAS", ECCV 2020, section 3.2).

    `weights` is a copy of the user's module, so `state_dict()` loads back into it. After training, subnets have weights
    of their own beside them, see `learnt`. The SuperNet moves between devices
    like any module; its inputs must be where it is.
    """

    def __init__(
        self,
        weights: nn.Module,
        graph: ElasticGraph,
        space: SearchSpace,
        orders: Mapping[str, Tensor],
        report: Report,
        options: Options,
        example: Inputs,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.graph = graph
        self.space = space
        self.orders = dict(orders)
        self.report = report
        self.options = options
        self.example = example
        #: The image input, where the search space has a resolution.
        self.image: Resolution | None = None
        self._device = graph.device
        #: This network at all sizes of its inputs seen so far.
        self.sizes = Sizes(self, graph)
        choices = {dimension.name: dimension.choices for dimension in space.kernel}
        kernels = [(kernel, choices[kernel.name]) for kernel in graph.kernels if kernel.name in choices]
        #: Trained with the weights, but no part of the user's state dict.
        self.transforms = KernelTransforms(kernels, {k.weight: self.tensor(k.weight) for k, _ in kernels})
        #: What subnets learnt where training kept the full network as it was; see `fit`.
        self.learnt: Learnt | None = None
        self._statistics: Recent[Config, Statistics] = Recent(_STATISTICS)

    @property
    def elastic_fraction(self) -> float:
        """Share of the parameters that shrink or vanish in the smallest subnet, 0 to 1."""
        return self.report.elastic_fraction

    # -- running

    @property
    def example_inputs(self) -> tuple[Any, ...]:
        """Positional inputs that elastic() was called with; later stages compile subnets for inputs of these shapes."""
        return self.example.args

    def forward(self, *args: Any, config: Config | None = None, **kwargs: Any) -> Any:
        """Output of a subnet (of the user's own network without `config`), in the user's output structure.

        Inputs are given as to the user's network, by position or by keyword.

        Raises: UsageError for an invalid configuration, InputShapeError for inputs that do not fit.
        """
        given = self.bound(Inputs(args, kwargs))
        leaves = given.leaves
        chosen = self.space.canonical(config or Config())
        if self.training and chosen.is_full:
            self.check_inputs(leaves)
            return plain(self.weights(*given.args, **given.kwargs))[0]
        statistics = {} if self.training else self._statistics.get(chosen) or {}
        return self.at(leaves, chosen).run(chosen, Mode.TRAIN if self.training else Mode.EVAL, leaves, statistics)

    def bound(self, inputs: Inputs) -> Inputs:
        """Inputs laid out as the example was. Raises: InputShapeError when they are other ones."""
        return bind(self.weights, self.example, inputs)

    def at(self, leaves: Sequence[Any], config: Config) -> Sized:
        """The capture that runs a configuration on inputs (the leaves, in order); made when first needed.

        Raises: InputShapeError when the inputs do not fit, or the user's module does not run at their sizes.
        """
        self.check_inputs(leaves)
        height = height_of(config)
        if self.image is None or height is None:
            return self.sizes.find(leaves) or self.sizes.add(leaves)
        known = self.sizes.find(self.image.stand_ins(leaves, height))
        return known or self.sizes.add(self.image.resized(leaves, height))

    def at_example(self, config: Config, example: Example | None = None) -> Sized:
        """The capture that runs a configuration on an example of the inputs, by default that of elastic()."""
        if example is None and height_of(config) is None:
            return self.sizes.base
        given = self.example
        if isinstance(example, Mapping):
            given = bind(self.weights, self.example, Inputs((), example))
        elif example is not None:
            given = bind(self.weights, self.example, Inputs.of(example))
        return self.at(given.map(lambda x: x.to(self._device)).leaves, config)

    def resize_entry(self, graph: Graph, config: Config, skip: int) -> None:
        """Make a subnet's graph resize its image first, where the configuration says so."""
        height = height_of(config)
        if self.image is not None and height is not None:
            self.image.resize_entry(graph, height, skip)

    def check_inputs(self, inputs: Sequence[Any]) -> None:
        """Raises: InputShapeError when inputs (the leaves, in order) differ from the example in count, type,
        device, axes, or from each other in batch."""
        signature = self.graph.inputs
        if len(inputs) != len(signature):
            raise InputShapeError(
                f"{self.report.model} takes {len(signature)} inputs, got {len(inputs)}",
                fix="pass one tensor for each tensor of example_inputs",
            )
        batches = set()
        for given, wanted in zip(inputs, signature, strict=True):
            if not wanted.dtype or not isinstance(given, Tensor):
                if wanted.dtype or isinstance(given, Tensor) or given != wanted.constant:
                    raise InputShapeError(
                        f"input {wanted.name!r} of {self.report.model} does not fit",
                        why=f"expected {wanted.dtype or repr(wanted.constant)}, got {type(given).__name__}",
                        fix="an input that is None or a constant in example_inputs is part of the compiled network",
                    )
                continue
            if given.device != self._device:
                raise InputShapeError(
                    f"input {wanted.name!r} of {self.report.model} is on {given.device}, the network on {self._device}",
                    fix="move one to the other: net.to(x.device) or x.to(net.device)",
                )
            if given.ndim != len(wanted.shape) or str(given.dtype) != f"torch.{wanted.dtype}":
                shape = ", ".join("N" if size is None else str(size) for size in wanted.shape)
                raise InputShapeError(
                    f"input {wanted.name!r} of {self.report.model} does not fit",
                    why=f"expected {wanted.dtype} ({shape}), got {str(given.dtype).removeprefix('torch.')} "
                    f"{tuple(given.shape)}",
                    fix="give the input the type and the axes of the example; sizes may differ where the model allows",
                )
            batches |= {actual for size, actual in zip(wanted.shape, given.shape, strict=True) if size is None}
        if len(batches) > 1:
            raise InputShapeError(
                "the inputs differ in batch size", why=f"they have {', '.join(map(str, sorted(batches)))}"
            )

    # -- weights

    def tensor(self, name: str) -> Tensor:
        """A parameter, buffer or constant by its name in the graph."""
        return self.sizes.base.tensor(name)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `.to()`, `.cuda()` and `.half()` do to every tensor: constants and statistics move along."""
        super()._apply(fn, recurse)
        self._device = fn(torch.empty(0, device=self._device)).device
        for config, found in self._statistics.items():
            self._statistics.put(config, {name: fn(tensor) for name, tensor in found.items()})
        for sized in self.sizes:
            sized.move(fn)
        return self

    def selection(self, config: Config) -> Selection:
        """What a canonical configuration keeps and skips."""
        return self.sizes.base.selection(config)

    def statistics(self, config: Config) -> Statistics:
        """Recalibrated batch_norm statistics of a configuration by buffer name; empty when there are none."""
        return self._statistics.get(self.space.canonical(config)) or {}

    def set_statistics(self, config: Config, statistics: Statistics) -> None:
        """Use these batch_norm statistics, by buffer name, for a configuration other than the full one."""
        chosen = self.space.canonical(config)
        if not chosen.is_full:
            self._statistics.put(chosen, dict(statistics))

    def share(self, config: Config) -> float:
        """How far a configuration's weights are from the user's towards those that subnets learnt, 0 to 1."""
        return 0.0 if self.learnt is None or config.is_full else Learnt.share(self.macs(config), self.macs())

    def set_learnt(self, learnt: Learnt | None) -> None:
        """Use these weights for subnets; None: those of the full network. Recalibrated statistics are dropped."""
        self.learnt = learnt
        for sized in self.sizes:
            sized.forget_plans()
        self.forget_statistics()

    def recalibrated(self) -> list[tuple[Config, Statistics]]:
        """Every configuration with statistics of its own."""
        return [(config, found) for config, found in self._statistics.items() if found]

    def forget_statistics(self) -> None:
        """Drop all recalibrated statistics: they do not outlive a change of the weights."""
        self._statistics.clear()

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The user's own state dict: it loads into the user's model class."""
        return self.weights.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict of the user's model class. Recalibrated statistics, and what subnets learnt, are dropped:
        they belong to other weights."""
        self.set_learnt(None)
        return self.weights.load_state_dict(state_dict, strict=strict, assign=assign)

    # -- figures, without running anything

    def macs(self, config: Config | None = None, example: Example | None = None) -> int:
        """Multiply-accumulates of one sample. example: inputs of other sizes than those of elastic()."""
        shapes, selection = self._shapes(config, example)
        return count_macs(shapes, selection.skipped)

    def params(self, config: Config | None = None) -> int:
        """Parameter elements the subnet uses."""
        shapes, selection = self._shapes(config)
        return count_parameters(shapes, selection.skipped)

    def critical_path(self, config: Config | None = None) -> CriticalPath:
        """Longest way through the subnet, for one sample."""
        shapes, selection = self._shapes(config)
        return critical_path(shapes, selection.skipped)

    def peak_activation_bytes(
        self, config: Config | None = None, batch: int = 1, example: Example | None = None
    ) -> int:
        """Largest sum of activations alive at once, in bytes, in graph order; of a resized image, both sizes."""
        shapes, selection = self._shapes(config, example, batch)
        entry = 0
        height = height_of(self.space.canonical(config or Config()))
        if self.image is not None and height is not None:
            image: Tensor = self.example.leaves[self.image.leaf]
            pixels = self.image.height * self.image.width + math.prod(self.image.size(height))
            entry = batch * image.shape[1] * pixels * image.element_size()
        return max(entry, peak_activation_bytes(shapes, selection.skipped))

    def _shapes(
        self, config: Config | None, example: Example | None = None, batch: int = 1
    ) -> tuple[Shapes, Selection]:
        chosen = self.space.canonical(config or Config())
        return self.at_example(chosen, example).shapes(chosen, batch)

    # -- stages, each in a module of its own

    def extract(self, config: Config | None = None, example: Example | None = None) -> GraphModule:
        """A stand-alone subnet in eval mode with its own weights, for inputs of the sizes of `example`.

        See `extract.extract`.
        """
        return extract(self, config or Config(), example)

    def rank(self, criterion: str, loader: Iterable[Any] | None = None, loss: Loss | None = None) -> None:
        """Choose anew which channels subnets keep first, by "l2", "l1", "taylor" or "activation"; see `ranking.rank`.

        Recalibrated statistics are dropped: they belong to the channels kept before.
        """
        self.set_orders(rank(self, criterion, loader, loss))
        self.options = replace(self.options, importance=criterion)

    def set_orders(self, orders: Mapping[str, Tensor]) -> None:
        """Use these orders of importance, by dimension name, from now on. Recalibrated statistics are dropped."""
        self.orders = dict(orders)
        for sized in self.sizes:
            sized.forget_plans()
        self.forget_statistics()

    def recalibrate(self, config: Config, loader: Iterable[Any], images: int = 2000) -> None:
        """Find the batch_norm statistics of a subnet; see `recalibrate.recalibrate`."""
        recalibrate(self, config, loader, images)

    def fit(self, loader: Iterable[Any], **options: Any) -> FitResult:
        """Train all subnets together; see `train.fit` for the options."""
        return fit(self, loader, **options)

    def fine_tune(self, config: Config, loader: Iterable[Any], **options: Any) -> TunedSubnet:
        """Train one subnet alone, with weights of its own; see `training.subnet.fine_tune`."""
        return fine_tune(self, config, loader, **options)

    def adopt(self, config: Config, module: nn.Module) -> None:
        """Use the weights of a fine-tuned subnet for its configuration, instead of slices; see `extract.adopt`."""
        adopt(self, config, module)

    def save(self, path: str | Path) -> None:
        """Write weights, channel order and recalibrated statistics to a file; see `checkpoint.save`."""
        save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path, model: nn.Module, *example: Any) -> SuperNet:
        """Compile `model` as it was when saved and read everything back; `example` are the inputs of elastic()."""
        return load(Path(path), model, *example)
