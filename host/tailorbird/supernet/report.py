"""The report of elastic(): what can shrink, what cannot and why, and how far the whole network can go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailorbird.document import DocumentError, dump_document, parse_document
from tailorbird.errors import UsageError
from tailorbird.graph import Stage

if TYPE_CHECKING:
    from rich.console import RenderableType

REPORT_SCHEMA = "tailorbird.elastic/1"


@dataclass(frozen=True, slots=True)
class Place:
    """A module that stores a dimension, and what the dimension is there: "in-channels" of "layer2.0.conv2"."""

    module: str
    role: str


@dataclass(frozen=True, slots=True)
class ElasticDimension:
    """One elastic dimension; the last choice is its full size.

    kind: as in the search space (width, heads, depth, ...); what: the same in the user's words ("out-channels");
    places: everything that stores it, the tensor it is named after first; params_saved: parameters that go when this
    dimension alone is at its smallest choice.
    """

    name: str
    kind: str
    what: str
    size: int
    choices: tuple[int, ...]
    places: tuple[Place, ...]
    params_saved: int

    @property
    def is_block(self) -> bool:
        """Whether it is a block that is there or skipped."""
        return self.kind == "depth" and self.choices == (0, 1)


@dataclass(frozen=True, slots=True)
class PinnedDimension:
    """An axis of a parameter that keeps its full size: the op that asked for it, why, and the line of the user's code.

    name: "fc.weight[0]", or the name of a dimension that the options left out; module and what: "fc", "out-features".
    """

    name: str
    size: int
    op: str
    reason: str
    module: str = ""
    what: str = ""
    line: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of compiling a network to a SuperNet. MACs and activations are for one sample.

    inputs: "x float32 (N, 3, 224, 224)" of each; peak_bytes: largest sum of activations alive at once; stages: the
    blocks that can be skipped, in runs of layers of which the first few can be kept.
    """

    model: str
    inputs: tuple[str, ...]
    dimensions: tuple[ElasticDimension, ...]
    pinned: tuple[PinnedDimension, ...]
    unknown_ops: tuple[str, ...]
    elastic_fraction: float
    subnets: int
    params_full: int
    params_smallest: int
    macs_full: int
    macs_smallest: int
    peak_bytes_full: int
    peak_bytes_smallest: int
    any_batch: bool
    notes: tuple[str, ...]
    stages: tuple[Stage, ...] = ()
    build_seconds: float = 0.0
    schema: str = REPORT_SCHEMA

    def to_json(self) -> str:
        """All fields as JSON; `from_json` reads it back."""
        return dump_document(self, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """Inverse of `to_json`. Raises: UsageError when the text is no such report."""
        try:
            return parse_document(cls, text, schema=REPORT_SCHEMA)
        except DocumentError as error:
            raise UsageError(
                "this is no report of a SuperNet", why=str(error), fix="give the text that Report.to_json wrote"
            ) from error

    def render(self, *, everything: bool = False) -> str:
        """The report as plain text, a page of it or (everything) every dimension and axis on a line of its own."""
        from tailorbird.supernet.page import page

        return page(self, everything=everything).plain()

    def __str__(self) -> str:
        return self.render()

    def __rich__(self) -> RenderableType:
        from tailorbird.supernet.page import page

        return page(self).rich()

    def _repr_html_(self) -> str:
        from tailorbird.supernet.page import page

        return page(self).html()
