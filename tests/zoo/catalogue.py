"""The zoo: every network that the compiler is measured on, by name, and the quick part of it."""

from __future__ import annotations

import functools
import importlib

from tests.zoo.entry import Entry
from tests.zoo.torchvision_schema import declare

ORIGINS = ("timm", "torchvision", "transformers", "written")

#: One network for each family of structures, all small: what every change is tested on.
QUICK = (
    "timm/mobilenetv2_035",
    "timm/convnext_zepto_rms",
    "timm/ghostnet_050",
    "timm/deit_tiny_patch16_224",
    "torchvision/resnet18",
    "torchvision/regnet_x_400mf",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/squeezenet1_1",
    "torchvision/swin",
    "torchvision/lraspp_mobilenet_v3",
    "transformers/bert",
    "transformers/gpt2",
    "transformers/llama",
    "transformers/t5",
    "transformers/vit",
    "transformers/wav2vec2",
    "written/unet",
    "written/feature_pyramid",
    "written/mixnet",
    "written/yolo",
    "written/linked_concats",
    "written/transformer_xl",
    "written/conv_tasnet",
    "written/lstm_tagger",
    "written/siamese",
    "written/dataclass_output",
)


@functools.cache
def of_origin(origin: str) -> dict[str, Entry]:
    """The networks of one origin by name. Imports its library."""
    declare()
    return {entry.name: entry for entry in importlib.import_module(f"tests.zoo.{origin}_models").ENTRIES}


def entry(name: str) -> Entry:
    """One network. Raises: KeyError for a name that is not in the zoo."""
    return of_origin(name.partition("/")[0])[name]


def names() -> tuple[str, ...]:
    """All names, in the order of the origins."""
    return tuple(name for origin in ORIGINS for name in of_origin(origin))
