"""How lines are counted: those that hold more than blanks or a comment. The same rule for Python, TOML and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_EXAMPLE = Path(__file__).with_name("example.py")
_MARK = "# construction"


def lines(path: Path) -> int:
    """Lines of a file that are neither blank nor a comment alone."""
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") for line in path.read_text().splitlines())


@dataclass(frozen=True, slots=True)
class Cost:
    """What one system asks for one network.

    construction: lines written for this network to get its SuperNet; end_to_end: lines written until a subnet is
    trained and chosen, at least, as far as they were counted, with what of it is meant by `included`; shared: library
    lines that the construction rests on and that had to be written by hand for its kinds of layers.
    """

    system: str
    network: str
    construction: int
    end_to_end: int
    included: str
    source: str
    shared: int = 0


_OFA = "PyPI ofa 0.1.0.post202307202001, ofa/imagenet_classification/elastic_nn"
_OFA_SHARED = 711 + 327 + 63  # modules/dynamic_layers.py, modules/dynamic_op.py, utils.py
_OFA_TRAINING = 368  # training/progressive_shrinking.py
_AUTOTAILOR = "github.com/liu-mengyang/AutoTailor at e30a7d0, configs/supernet"
_AUTOTAILOR_WHOLE = "its TOML and one line of ONNX export; training TOML and scripts come on top, not counted"
_NNCF = (
    "github.com/openvinotoolkit/nncf v2, examples/experimental/torch/classification/bootstrapnas_examples/config.json"
)


def _ofa(network: str, file: str, construction: int) -> Cost:
    whole = construction + _OFA_SHARED + _OFA_TRAINING
    included = "network, dynamic layers, progressive shrinking; the script that calls them comes on top, not counted"
    return Cost("Once-for-All", network, construction, whole, included, f"{_OFA}/networks/{file}", _OFA_SHARED)


def _tailor(network: str, file: str, construction: int) -> Cost:
    return Cost("AutoTailor", network, construction, construction + 1, _AUTOTAILOR_WHOLE, f"{_AUTOTAILOR}/{file}")


#: Counted once in the published code with `lines`; `python -m tests.bench.loc --ofa FOLDER` counts OFA again.
PUBLISHED = (
    _ofa("MobileNetV3", "ofa_mbv3.py", 333),
    _ofa("ResNet-50", "ofa_resnets.py", 300),
    _ofa("ProxylessNAS", "ofa_proxyless.py", 321),
    _tailor("MobileNetV3", "ofa_mobilenetv3w10.toml", 17),
    _tailor("ResNet-50", "ofa_resnet50.toml", 15),
    _tailor("ViT", "vit.toml", 11),
    Cost(
        "NNCF BootstrapNAS",
        "ResNet-50",
        62,
        62,
        "the JSON names blocks, training stages and search; the script that reads it comes on top, not counted",
        _NNCF,
    ),
)


def ours() -> Cost:
    """Counted in the example beside this file, which a test runs."""
    text = _EXAMPLE.read_text().splitlines()
    return Cost(
        "Tailorbird",
        "any",
        sum(_MARK in line for line in text),
        lines(_EXAMPLE),
        "imports, training, accuracy and latency prediction, search, deployment to a device",
        "tests/bench/loc/example.py",
    )


def recount_ofa(folder: Path) -> dict[str, int]:
    """Lines of the OFA files that PUBLISHED speaks of, in an unpacked `pip download --no-deps ofa`."""
    root = folder / "ofa" / "imagenet_classification" / "elastic_nn"
    parts = ("networks/ofa_mbv3.py", "networks/ofa_resnets.py", "networks/ofa_proxyless.py")
    shared = ("modules/dynamic_layers.py", "modules/dynamic_op.py", "utils.py")
    return {
        **{part: lines(root / part) for part in parts},
        "shared": sum(lines(root / part) for part in shared),
        "training": lines(root / "training/progressive_shrinking.py"),
    }
