"""timm: one network for each module of its model zoo, the smallest that shows the module's structure.

Image sizes are reduced where a network takes any, the depth of networks that exist in large variants alone.
"""

from __future__ import annotations

from typing import Any

import timm
import torch

from tests.zoo.entry import Entry, Made

RESIDUAL, ATTENTION = "residual", "attention"
R, RA = (RESIDUAL,), (RESIDUAL, ATTENTION)

# module of timm -> variant, image size, traits, arguments of the constructor
_ROWS: dict[str, tuple[str, int, tuple[str, ...], dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", 64, RA, {"depth": 3, "embed_dim": 192, "num_heads": 3, "img_size": 64}),
    "byoanet": ("halonet_h1", 256, RA, {}),
    "byobnet": ("mobileone_s1", 96, (), {}),
    "cait": ("cait_xxs24_224", 64, RA, {"depth": 6, "img_size": 64}),
    "coat": ("coat_lite_tiny", 64, RA, {"img_size": 64}),
    "convit": ("convit_tiny", 96, RA, {"img_size": 96}),
    "convmixer": ("convmixer_768_32", 56, R, {}),
    "convnext": ("convnext_zepto_rms", 96, R, {}),
    "cpubone": ("cpubone_nano", 96, RA, {}),
    "crossvit": ("crossvit_tiny_240", 240, RA, {}),
    "csatv2": ("csatv2", 256, RA, {}),
    "cspnet": ("cs3darknet_focus_s", 96, R, {}),
    "cspnext": ("cspnext_tiny", 96, R, {}),
    "davit": ("davit_tiny", 112, RA, {"depths": (1, 1, 2, 1)}),
    "deepseek_vit": ("deepseek_vit_412m", 56, RA, {"depth": 3, "embed_dim": 256, "num_heads": 4}),
    "deit": ("deit_tiny_patch16_224", 96, RA, {"img_size": 96}),
    "densenet": ("densenet121", 96, (), {}),
    "dla": ("dla46x_c", 96, R, {}),
    "dpn": ("dpn48b", 96, (), {}),  # the branches of its additions also feed its concatenations
    "edgenext": ("edgenext_xx_small", 96, RA, {}),
    "efficientformer": ("efficientformer_l1", 224, RA, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 224, RA, {}),
    "efficientnet": ("mobilenetv2_035", 96, R, {}),
    "efficientvim": ("efficientvim_m1", 128, R, {}),
    "efficientvit_mit": ("efficientvit_b0", 96, RA, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, R, {}),  # each head is a module with an input of its own
    "eva": ("eva02_tiny_patch14_224", 56, RA, {"depth": 6, "img_size": 56}),
    "fasternet": ("fasternet_t0", 96, R, {}),
    "fastvit": ("fastvit_t8", 128, R, {}),
    "focalnet": ("focalnet_tiny_srf", 96, R, {}),
    "gcvit": ("gcvit_xxtiny", 224, RA, {}),
    "gemma4_vit": ("gemma4_vit_167m", 96, RA, {"depth": 2}),
    "ghostnet": ("ghostnet_050", 96, R, {}),
    "hardcorenas": ("hardcorenas_b", 96, R, {}),
    "hgnet": ("hgnetv2_b0", 96, R, {}),
    "hiera": ("hiera_tiny_224", 224, RA, {"stages": (1, 1, 2, 1)}),
    "hieradet_sam2": ("hieradet_small", 128, RA, {}),
    "hrnet": ("hrnet_w18_small", 96, R, {}),
    "iformer": ("iformer_t", 96, R, {}),
    "inception_next": ("inception_next_atto", 96, R, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 107, R, {}),
    "inception_v3": ("inception_v3", 107, (), {}),
    "inception_v4": ("inception_v4", 107, (), {}),
    "lcnetv2": ("lcnetv2_small", 96, (), {}),
    "levit": ("levit_128s", 224, RA, {}),
    "lowformer": ("lowformer_b0", 96, RA, {}),
    "mambaout": ("mambaout_femto", 96, R, {}),
    "maxxvit": ("maxvit_pico_rw_256", 256, RA, {}),
    "metaformer": ("poolformer_s12", 96, R, {}),
    "mlp_mixer": ("gmlp_ti16_224", 64, R, {"img_size": 64}),
    "mobilenetv3": ("mobilenetv3_small_050", 96, R, {}),
    "mobilenetv5": ("mobilenetv5_base", 128, RA, {}),
    "mobilevit": ("mobilevit_xxs", 128, RA, {}),
    "mvitv2": ("mvitv2_tiny", 96, RA, {"img_size": 96}),
    "naflexvit": ("naflexvit_base_patch16_gap", 64, RA, {"depth": 3}),
    "nasnet": ("nasnetalarge", 96, (), {}),
    "nest": ("nest_tiny", 224, RA, {}),
    "nextvit": ("nextvit_small", 96, RA, {}),
    "nfnet": ("nf_regnet_b0", 96, R, {}),
    "pit": ("pit_ti_224", 224, RA, {}),
    "pnasnet": ("pnasnet5large", 96, (), {}),
    "pvt_v2": ("pvt_v2_b0", 96, RA, {}),
    "qwen3_vit": ("qwen3_vit_88m", 96, RA, {"depth": 2}),
    "rdnet": ("rdnet_tiny", 96, (), {}),
    "regnet": ("regnety_002", 96, R, {}),
    "repghost": ("repghostnet_050", 96, R, {}),
    "repvit": ("repvit_m0_9", 96, R, {}),
    "res2net": ("res2next50", 96, R, {}),
    "resnest": ("resnest26d", 96, R, {}),
    "resnet": ("resnet10t", 96, R, {}),
    "resnetv2": ("resnetv2_18", 96, R, {}),
    "rexnet": ("rexnet_100", 96, (), {}),  # every branch adds channels that its shortcut does not have
    "selecsls": ("selecsls42", 96, (), {}),
    "senet": ("legacy_seresnet18", 96, R, {}),
    "sequencer": ("sequencer2d_s", 112, R, {"layers": (1, 1, 1, 1)}),
    "shvit": ("shvit_s1", 128, R, {}),
    "sknet": ("skresnet18", 96, R, {}),
    "starnet": ("starnet_s050", 96, R, {}),
    "swiftformer": ("swiftformer_xs", 96, R, {}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 112, RA, {"img_size": 112, "depths": (2, 2, 2)}),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 128, RA, {"img_size": 128, "depths": (2, 2, 2)}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 112, RA, {"img_size": 112, "depths": (2, 2, 2)}),
    "tiny_vit": ("tiny_vit_5m_224", 224, RA, {}),
    "tnt": ("tnt_s_patch16_224", 64, RA, {"depth": 3, "img_size": 64}),
    "tresnet": ("tresnet_m", 64, R, {}),
    "twins": ("twins_svt_small", 224, RA, {"depths": (1, 1, 2, 1)}),
    "vgg": ("vgg11_bn", 32, (), {"mlp_ratio": 0.125}),
    "visformer": ("visformer_tiny", 224, RA, {}),
    "vision_transformer": ("vit_tiny_patch16_224", 96, RA, {"img_size": 96}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 96, RA, {"img_size": 96}),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_224", 64, RA, {"img_size": 64, "depth": 3}),
    "vision_transformer_sam": ("samvit_base_patch16_224", 224, RA, {"depth": 3, "embed_dim": 192, "num_heads": 3}),
    "vitamin": ("vitamin_small_224", 224, RA, {}),
    "volo": ("volo_d1_224", 224, RA, {}),
    "vovnet": ("ese_vovnet19b_slim_dw", 96, (), {}),
    "xception": ("legacy_xception", 107, R, {}),
    "xception_aligned": ("xception41p", 107, R, {}),
    "xcit": ("xcit_nano_12_p8_224", 64, RA, {"img_size": 64}),
}


def _entry(variant: str, size: int, traits: tuple[str, ...], arguments: dict[str, Any]) -> Entry:
    def make() -> Made:
        return timm.create_model(variant, **arguments), (torch.randn(1, 3, size, size),)

    return Entry(f"timm/{variant}", make, RESIDUAL in traits, ATTENTION in traits)


#: Module of timm -> its network.
BY_MODULE = {module: _entry(*row) for module, row in _ROWS.items()}
ENTRIES = tuple(BY_MODULE.values())
