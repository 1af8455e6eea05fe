"""Entrant: one network of the headline comparison, judged on images and written for the device."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from tailorbird.compile.base import Built, CompileTarget, backend
from tailorbird.compile.capture import capture
from tailorbird.compile.kernels import kernels_of
from tailorbird.compile.verify import verify
from tailorbird.types import Candidate, ModuleKind, TensorSpec
from tests.bench.equal_latency.finetune import Batch, score

Found = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Judges:
    """What every entrant is judged by. validation: images for all choices; evaluation: for the reported figures alone;
    example: one image (1, C, H, W) on which the compiled module must agree with torch.
    """

    validation: Iterable[Batch]
    evaluation: Iterable[Batch]
    example: Tensor
    target: CompileTarget
    runtime: str = "litert"


@dataclass(frozen=True, slots=True)
class Entrant:
    """A network of a method. Accuracies are fractions; details: how it was made."""

    method: str
    name: str
    validation: float
    evaluation: float
    macs: int
    params: int
    module: bytes = field(repr=False)
    kind: str
    inputs: tuple[TensorSpec, ...]
    max_error: float
    details: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Method and name: unique among entrants."""
        return f"{self.method}/{self.name}"

    @property
    def candidate(self) -> Candidate:
        """What the device is sent."""
        return Candidate(ModuleKind(self.kind), self.module, self.inputs, self.label)

    def to_json(self) -> Found:
        """All of it; the inverse of from_json."""
        return self.figures() | {
            "module": base64.b64encode(self.module).decode(),
            "kind": self.kind,
            "inputs": [[spec.name, spec.datatype, list(spec.shape)] for spec in self.inputs],
        }

    def figures(self) -> Found:
        """What is reported: all but the module."""
        return {
            "method": self.method,
            "name": self.name,
            "validation": self.validation,
            "evaluation": self.evaluation,
            "macs": self.macs,
            "params": self.params,
            "module_bytes": len(self.module),
            "max_error": self.max_error,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entrant:
        """Inverse of to_json."""
        own = {name: value for name, value in data.items() if name != "module_bytes"}
        own["module"] = base64.b64decode(data["module"])
        own["inputs"] = tuple(TensorSpec(name, kind, tuple(shape)) for name, kind, shape in data["inputs"])
        return cls(**own)


def judged(
    method: str,
    name: str,
    network: nn.Module,
    judges: Judges,
    details: Mapping[str, Any],
    *,
    validation: float | None = None,
) -> Entrant:
    """Judge a network in eval mode and compile it. validation: its accuracy there, where it is known.

    Raises: CompileError, VerifyError.
    """
    captured = capture(network, (judges.example,))
    built: Built = backend(judges.runtime).build(captured, judges.target)
    checked = verify(built, network, [(judges.example,)])
    return Entrant(
        method=method,
        name=name,
        validation=score(network, judges.validation) if validation is None else validation,
        evaluation=score(network, judges.evaluation),
        macs=sum(spec.macs for spec in kernels_of(captured) if spec.op in {"conv2d", "depthwise", "linear"}),
        params=sum(p.numel() for p in network.parameters()),
        module=built.module,
        kind=built.kind.value,
        inputs=built.inputs,
        max_error=checked.max_error,
        details=details,
    )
