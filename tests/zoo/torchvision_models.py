"""torchvision: one network for each classification family, segmentation, video, optical flow, detection backbones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torchvision import models
from torchvision.models import detection, segmentation, video
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.models.optical_flow.raft import FeatureEncoder, ResidualBlock

from tests.zoo.entry import Entry, Made


class _Detector(nn.Module):
    """Backbone and head of a detector: all that comes before boxes are decoded and filtered."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.head(list(self.backbone(x).values()))


def _detector(make: Callable[..., nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        whole = make(weights=None, weights_backbone=None, num_classes=5)
        return _Detector(whole.backbone, whole.head)

    return build


def _classifier(make: Callable[..., nn.Module], **arguments: object) -> Callable[[], nn.Module]:
    return lambda: make(weights=None, **arguments)


def _segmenter(make: Callable[..., nn.Module], **arguments: object) -> Callable[[], nn.Module]:
    return lambda: make(weights=None, weights_backbone=None, num_classes=6, **arguments)


def _vit() -> nn.Module:
    return models.VisionTransformer(64, 16, num_layers=3, num_heads=3, hidden_dim=192, mlp_dim=768)


def _maxvit() -> nn.Module:
    return models.MaxVit((112, 112), 32, 7, [32, 64, 128], [1, 2, 1], 32, 0.1)


def _swin(block: type[nn.Module] | None = None) -> nn.Module:
    v1 = models.SwinTransformer([4, 4], 48, [2, 2, 2], [3, 6, 12], [7, 7])
    if block is None:
        return v1
    from torchvision.models.swin_transformer import PatchMergingV2

    return models.SwinTransformer(
        [4, 4], 48, [2, 2, 2], [3, 6, 12], [8, 8], block=block, downsample_layer=PatchMergingV2
    )


def _swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import SwinTransformerBlockV2

    return _swin(SwinTransformerBlockV2)


def _fpn(name: str) -> Callable[[], nn.Module]:
    return lambda: resnet_fpn_backbone(backbone_name=name, weights=None, trainable_layers=5)


def _mobile_fpn() -> nn.Module:
    return mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True, trainable_layers=6)


def _entry(
    name: str, make: Callable[[], nn.Module], shape: tuple[int, ...], *, residual: bool = False, attention: bool = False
) -> Entry:
    def made() -> Made:
        return make(), (torch.randn(1, *shape),)

    return Entry(f"torchvision/{name}", made, residual, attention)


_IMAGE = (3, 96, 96)

ENTRIES = (
    _entry("alexnet", _classifier(models.alexnet), _IMAGE),
    _entry("resnet18", _classifier(models.resnet18), _IMAGE, residual=True),
    _entry("resnet50", _classifier(models.resnet50), _IMAGE, residual=True),
    _entry("resnext50_32x4d", _classifier(models.resnext50_32x4d), _IMAGE, residual=True),
    _entry("wide_resnet50_2", _classifier(models.wide_resnet50_2), (3, 64, 64), residual=True),
    _entry("densenet121", _classifier(models.densenet121), _IMAGE),
    _entry("googlenet", _classifier(models.googlenet, init_weights=True), _IMAGE),
    _entry("inception_v3", _classifier(models.inception_v3, init_weights=True), (3, 107, 107)),
    _entry("squeezenet1_1", _classifier(models.squeezenet1_1), _IMAGE),
    _entry("shufflenet_v2_x0_5", _classifier(models.shufflenet_v2_x0_5), _IMAGE),
    _entry("mnasnet0_5", _classifier(models.mnasnet0_5), _IMAGE, residual=True),
    _entry("mobilenet_v2", _classifier(models.mobilenet_v2), _IMAGE, residual=True),
    _entry("mobilenet_v3_small", _classifier(models.mobilenet_v3_small), _IMAGE, residual=True),
    _entry("mobilenet_v3_large", _classifier(models.mobilenet_v3_large), _IMAGE, residual=True),
    _entry("efficientnet_b0", _classifier(models.efficientnet_b0), _IMAGE, residual=True),
    _entry("efficientnet_v2_s", _classifier(models.efficientnet_v2_s), _IMAGE, residual=True),
    _entry("regnet_x_400mf", _classifier(models.regnet_x_400mf), _IMAGE, residual=True),
    _entry("regnet_y_400mf", _classifier(models.regnet_y_400mf), _IMAGE, residual=True),
    _entry("convnext_tiny", _classifier(models.convnext_tiny), _IMAGE, residual=True),
    _entry("vision_transformer", _vit, (3, 64, 64), residual=True, attention=True),
    _entry("swin", _swin, (3, 112, 112), residual=True, attention=True),
    _entry("swin_v2", _swin_v2, (3, 128, 128), residual=True, attention=True),
    _entry("maxvit", _maxvit, (3, 112, 112), residual=True, attention=True),
    _entry("fcn_resnet50", _segmenter(segmentation.fcn_resnet50, aux_loss=True), (3, 64, 64), residual=True),
    _entry("deeplabv3_resnet50", _segmenter(segmentation.deeplabv3_resnet50), (3, 64, 64), residual=True),
    _entry("deeplabv3_mobilenet_v3", _segmenter(segmentation.deeplabv3_mobilenet_v3_large), _IMAGE, residual=True),
    _entry("lraspp_mobilenet_v3", _segmenter(segmentation.lraspp_mobilenet_v3_large), _IMAGE, residual=True),
    _entry("resnet18_fpn", _fpn("resnet18"), _IMAGE, residual=True),
    _entry("resnet50_fpn", _fpn("resnet50"), (3, 64, 64), residual=True),
    _entry("mobilenet_v3_fpn", _mobile_fpn, _IMAGE, residual=True),
    _entry("ssd300_vgg16", _detector(detection.ssd300_vgg16), (3, 300, 300)),
    _entry("ssdlite320_mobilenet_v3", _detector(detection.ssdlite320_mobilenet_v3_large), (3, 320, 320), residual=True),
    _entry("retinanet_resnet50_fpn", _detector(detection.retinanet_resnet50_fpn), (3, 64, 64), residual=True),
    _entry("r3d_18", _classifier(video.r3d_18, num_classes=10), (3, 8, 48, 48), residual=True),
    _entry(
        "raft_encoder",
        lambda: FeatureEncoder(block=ResidualBlock, layers=(32, 32, 64, 96, 128), norm_layer=nn.InstanceNorm2d),
        (3, 64, 64),
        residual=True,
    ),
)
