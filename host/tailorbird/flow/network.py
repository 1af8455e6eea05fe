"""A SuperNet on disk: where the model came from, and everything elastic() and training found out.

network.json   the model's source, inputs, fingerprint
supernet.pt    weights, channel order, recalibrated statistics (SuperNet.save)
report.json    what is elastic, what is pinned and why
atlas.json     the graph, to be drawn
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tailorbird.cache import StageResult
from tailorbird.document import dump_document
from tailorbird.errors import MissingFileError, ModelError
from tailorbird.flow.artifact import read_document, stage_result
from tailorbird.flow.inputs import InputSpec, arranged, examples
from tailorbird.flow.source import Source, fingerprint, load_model, source_sha256
from tailorbird.flow.workspace import Workspace
from tailorbird.supernet import Options, Report, SuperNet, elastic
from tailorbird.supernet.atlas import ATLAS_SCHEMA, Atlas, draw

NETWORK_SCHEMA = "tailorbird.network/2"
_STAGE = "supernet"
_CHECKPOINT = "supernet.pt"


@dataclass(frozen=True, slots=True)
class NetworkDocument:
    """network.json. data: what it was fine-tuned on, if it was."""

    model: str
    source: str
    source_sha256: str
    fingerprint: str
    inputs: tuple[InputSpec, ...]
    data: str | None = None
    schema: str = NETWORK_SCHEMA


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A SuperNet in memory and the artifact it belongs to."""

    net: SuperNet
    document: NetworkDocument
    result: StageResult

    @property
    def name(self) -> str:
        """Name of the model's class, which also names its deployments."""
        return self.document.model

    @property
    def inputs(self) -> tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]:
        """Positional and keyword inputs of the shapes the network was compiled for."""
        return examples(self.document.inputs)

    @property
    def example(self) -> tuple[torch.Tensor, ...]:
        """The positional inputs alone: all that a network which can be trained from a data file takes."""
        return self.inputs[0]

    def write(self, folder: Path) -> None:
        """Write the network as it is now, so that the folder opens by itself."""
        (folder / "network.json").write_text(dump_document(self.document, indent=1), encoding="utf-8")
        (folder / "report.json").write_text(self.net.report.to_json(), encoding="utf-8")
        atlas = draw(self.net.graph, self.net.report.dimensions)
        (folder / "atlas.json").write_text(dump_document(atlas), encoding="utf-8")
        self.net.save(folder / _CHECKPOINT)

    def after(self, result: StageResult) -> Network:
        """The same network as a stage that changes it in place left it; read from the artifact where that was found."""
        net = _load(result.folder, self.net.weights, self.document) if result.hit else self.net
        return replace(self, net=net, result=result)

    def trained_on(self, data: str | None) -> Network:
        """The same network with the name of its data."""
        return replace(self, document=replace(self.document, data=data or self.document.data))


def build_supernet(
    workspace: Workspace,
    source: Source,
    inputs: Sequence[InputSpec],
    *,
    model: nn.Module | None = None,
    options: Options = Options(),  # noqa: B008  (frozen)
) -> Network:
    """Compile a model to a SuperNet.

    model: an instance with the weights to use; by default what the source returns.

    Raises:
        ModelError: the source cannot be loaded, or torch.export refuses its model.
        InputShapeError: the model does not run on those inputs.
        UsageError: an input is named after no parameter of forward().
    """
    user = load_model(source) if model is None else model
    document = _describe(source, user, inputs)
    found = workspace.cache.find(_STAGE, _key(document, source, options))
    if found is not None:
        return Network(_load(found.folder, user, document), document, found)
    net = elastic(user, *examples(document.inputs), **options.arguments())
    draft = Network(net, document, StageResult(_STAGE, "", Path(), hit=False, seconds=0.0))
    return replace(draft, result=workspace.cache.run(_STAGE, _key(document, source, options), draft.write))


def survey_supernet(
    workspace: Workspace,
    source: Source,
    inputs: Sequence[InputSpec],
    *,
    model: nn.Module | None = None,
    options: Options = Options(),  # noqa: B008  (frozen)
) -> tuple[Report, StageResult]:
    """What build_supernet finds out, without making the SuperNet again where it is in the cache. Raises: likewise."""
    user = load_model(source) if model is None else model
    found = workspace.cache.find(_STAGE, _key(_describe(source, user, inputs), source, options))
    if found is None:
        found = build_supernet(workspace, source, inputs, model=user, options=options).result
    return Report.from_json((found.folder / "report.json").read_text(encoding="utf-8")), found


def read_atlas(folder: Path) -> Atlas:
    """The graph of a SuperNet from its artifact. Raises: MissingFileError; UsageError when it is damaged."""
    return read_document(folder, "atlas.json", Atlas, ATLAS_SCHEMA, made_by="tailorbird supernet")


def _describe(source: Source, model: nn.Module, inputs: Sequence[InputSpec]) -> NetworkDocument:
    return NetworkDocument(
        type(model).__name__, str(source), source_sha256(source), fingerprint(model), arranged(inputs, model)
    )


def _key(document: NetworkDocument, source: Source, options: Options) -> dict[str, Any]:
    """Everything a SuperNet is made from."""
    return {
        "source": document.source_sha256,
        "name": source.name,
        "model": document.fingerprint,
        "inputs": [asdict(spec) for spec in document.inputs],
        "options": asdict(options),
    }


def open_network(folder: Path) -> Network:
    """A SuperNet from the folder that `supernet` or `train` made.

    Raises:
        MissingFileError: there is no such artifact.
        ModelError: the model's source changed since.
    """
    document = read_document(folder, "network.json", NetworkDocument, NETWORK_SCHEMA, made_by="tailorbird supernet")
    source = Source.parse(document.source)
    if source_sha256(source) != document.source_sha256:
        raise ModelError(
            f"{document.source} changed since this SuperNet was made",
            why="its weights may not fit the new code",
            fix="run `tailorbird supernet` again",
        )
    return Network(_load(folder, load_model(source), document), document, stage_result(folder))


def _load(folder: Path, model: nn.Module, document: NetworkDocument) -> SuperNet:
    return SuperNet.load(folder / _CHECKPOINT, model, *examples(document.inputs))


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a checkpoint of the user's: .safetensors, or .pt/.pth holding a state dict of tensors.

    Raises:
        MissingFileError: the file does not exist.
        ModelError: it does not fit the module.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingFileError(
            f"there are no weights at {path}", fix="check the path; it is relative to the current folder"
        )
    try:
        safe = path.suffix == ".safetensors"
        module.load_state_dict(load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise ModelError(
            f"the weights in {path} do not fit {type(module).__name__}",
            why=" ".join(str(error).split())[:300] or type(error).__name__,
            fix="give the state dict of this very model",
        ) from error
