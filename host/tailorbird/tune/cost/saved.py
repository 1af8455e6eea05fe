"""A pretrained cost network as one file: weights, normalisation, and what it is of. Its digest is its identity."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tailorbird.errors import MissingFileError
from tailorbird.tune.cost.errors import CostModelError
from tailorbird.tune.cost.features import WIDTH
from tailorbird.tune.cost.network import CostNetwork, NetworkShape

_SCHEMA = "tailorbird.cost-model/1"

#: The network that comes with Tailorbird.
SHIPPED = Path(__file__).parent / "pretrained.safetensors"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A network read from a file. compiler: whose features it knows; records: how many it learnt from; boards: the
    classes of boards they were made on; digest: sha256 of everything that decides its scores."""

    network: CostNetwork
    compiler: str
    records: int
    boards: tuple[str, ...]
    digest: str


def save(network: CostNetwork, path: Path, *, compiler: str, records: int, boards: tuple[str, ...]) -> str:
    """Write the file whole or not at all; its digest."""
    from safetensors.torch import save as to_bytes

    digest = digest_of(network)
    facts = {
        "schema": _SCHEMA,
        "width": WIDTH,
        "shape": asdict(network.shape),
        "compiler": compiler,
        "records": records,
        "boards": boards,
        "digest": digest,
    }
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(to_bytes(state, {"tailorbird": json.dumps(facts)}))
    part.replace(path)
    return digest


def load(path: Path = SHIPPED, *, compiler: str | None = None) -> Pretrained:
    """Read the file. compiler: the release whose features the network is to score, any by default.

    Raises MissingFileError; CostModelError when the file is damaged, or learnt from another compiler's features.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise MissingFileError(f"there is no cost model at {path}", fix="pretrain one, or use mode scratch")
    try:
        with safe_open(path, "pt") as stored:
            facts: dict[str, Any] = json.loads(stored.metadata()["tailorbird"])
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  (not a mapping)
        network = _network(facts, state)
    except (KeyError, ValueError, TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise CostModelError(
            f"{path} is no cost model that can be used",
            why=f"{type(error).__name__}: {error}",
            fix="restore the file, or pretrain one anew",
        ) from error
    if compiler is not None and facts["compiler"] != compiler:
        raise CostModelError(
            f"{path} does not know the features of {compiler}",
            why=f"it learnt from those of {facts['compiler']}, and what a feature means may have changed",
            fix="pretrain one with this release, or use mode scratch",
            reason="COST_MODEL_COMPILER",
        )
    return Pretrained(network, facts["compiler"], facts["records"], tuple(facts["boards"]), facts["digest"])


def _network(facts: dict[str, Any], state: dict[str, Any]) -> CostNetwork:
    if facts["schema"] != _SCHEMA or facts["width"] != WIDTH:
        raise ValueError(f"it is a {facts['schema']} of {facts['width']} features")
    network = CostNetwork(NetworkShape(**facts["shape"]))
    network.load_state_dict(state)
    if digest_of(network) != facts["digest"]:
        raise ValueError("its content is not what was saved")
    return network


def digest_of(network: CostNetwork) -> str:
    """sha256 of shape, weights and normalisation."""
    content = hashlib.sha256(json.dumps(asdict(network.shape), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.to(torch.float32).contiguous().numpy().tobytes())
    return content.hexdigest()
