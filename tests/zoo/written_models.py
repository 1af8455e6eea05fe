"""Hand-written networks, with example inputs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.zoo import small_models as small
from tests.zoo import written_sequence as sequence
from tests.zoo import written_vision as vision
from tests.zoo.entry import Entry, Made


def _entry(
    name: str,
    module: Callable[[], nn.Module],
    inputs: Callable[[], tuple[Tensor, ...]],
    *,
    residual: bool = False,
    attention: bool = False,
) -> Entry:
    def make() -> Made:
        return module(), inputs()

    return Entry(f"written/{name}", make, residual, attention)


def _image(size: int = 32) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randn(2, 3, size, size),)


def _tokens(length: int, words: int) -> Callable[[], tuple[Tensor, ...]]:
    return lambda: (torch.randint(0, words, (2, length)),)


ENTRIES = (
    _entry("resnet_option_a", small.ResNet20, _image(), residual=True),
    _entry("mobilenet_se", small.MobileNet, _image(), residual=True),
    _entry("grouped", small.GroupedNet, _image(16), residual=True),
    _entry("densenet", small.DenseNet, _image(16)),
    _entry("shufflenet", lambda: small.ShuffleNet(2), _image(16)),
    _entry("vit_manual", lambda: small.VisionTransformer(fused=False), _image(16), residual=True, attention=True),
    _entry("text_encoder", small.TextEncoder, lambda: small.token_ids(2), residual=True, attention=True),
    _entry("perceptron", small.Perceptron, lambda: (torch.randn(3, 20),)),
    _entry("unet", vision.UNet, _image()),
    _entry("res_unet", vision.ResUNet, _image(), residual=True),
    _entry("feature_pyramid", vision.FeaturePyramid, _image()),
    _entry("inception", vision.Inception, _image(16)),
    _entry("mixnet", vision.MixNet, _image(), residual=True),
    _entry("yolo", vision.Yolo, _image(), residual=True),
    _entry("gan_generator", vision.Generator, lambda: (torch.randn(2, 20),)),
    _entry("super_resolution", vision.SuperResolution, _image(12), residual=True),
    _entry("focus_glu", vision.Focus, _image(16), residual=True),
    _entry("high_resolution", vision.HighResolution, _image(), residual=True),
    _entry("linked_concats", vision.LinkedConcats, _image(8)),
    _entry("selective_kernel", vision.SelectiveKernel, _image(8)),
    _entry("transformer_xl", sequence.TransformerXL, _tokens(10, 60), residual=True, attention=True),
    _entry("conv_tasnet", sequence.ConvTasNet, lambda: (torch.randn(2, 1, 160),), residual=True),
    _entry("lstm_tagger", sequence.LstmTagger, _tokens(9, 80)),
    _entry("gru_forecast", sequence.GruForecast, lambda: (torch.randn(2, 6, 16),)),
    _entry("siamese", sequence.Siamese, lambda: (torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16))),
    _entry("tied_language_model", sequence.TiedLanguageModel, _tokens(9, 70), residual=True, attention=True),
    _entry(
        "torch_transformer",
        sequence.TorchTransformer,
        lambda: (torch.randint(0, 40, (2, 7)), torch.randint(0, 40, (2, 5))),
        residual=True,
        attention=True,
    ),
    _entry("dict_output", sequence.DictOutput, lambda: (torch.randn(3, 16),)),
    _entry("dataclass_output", sequence.DataclassOutput, lambda: (torch.randn(2, 4, 32),)),
    # Its branches also feed the sum of the skip connections.
    _entry("wavenet", sequence.WaveNet, lambda: (torch.randn(2, 1, 32),)),
    _entry("recommender", sequence.Recommender, lambda: (torch.randn(2, 6), torch.randint(0, 30, (2, 3)))),
    _entry("pointnet", sequence.PointNet, lambda: (torch.randn(2, 3, 20),)),
    _entry("mixture_of_experts", sequence.MixtureOfExperts, lambda: (torch.randn(2, 12),), residual=True),
)
