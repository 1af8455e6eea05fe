"""transformers: architectures built from small configurations with random weights.

Most with the head of a task, as they are used once trained; a bare encoder gives out its hidden states, whose width
then belongs to its contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor

from tests.zoo.entry import Entry, Made

_VOCABULARY = 120
Inputs = Callable[[], tuple[Tensor, ...]]


def _tokens(length: int = 12) -> Tensor:
    return torch.randint(3, _VOCABULARY, (2, length))


def _mask() -> Tensor:
    """The second text ends in padding."""
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 9:] = 0
    return mask


def _text() -> tuple[Tensor, ...]:
    return _tokens(), _mask()


def _causal() -> tuple[Tensor, ...]:
    return (_tokens(),)


def _translation() -> tuple[Tensor, ...]:
    return _tokens(), _mask(), _tokens(7)


def _image(size: int) -> Inputs:
    return lambda: (torch.randn(1, 3, size, size),)


def _clip() -> tuple[Tensor, ...]:
    return _tokens(), torch.randn(2, 3, 32, 32)


def _audio() -> tuple[Tensor, ...]:
    return (torch.randn(1, 1600),)


def _spectrogram() -> tuple[Tensor, ...]:
    return torch.randn(1, 16, 40), torch.ones(1, 40, dtype=torch.long), torch.randint(3, 90, (1, 6))


# Sizes under the names that each generation of configurations uses.
_BERT = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 40,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2, "use_cache": False}
_BART = {
    "vocab_size": _VOCABULARY,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 40,
    "use_cache": False,
}
_VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}
_SPEECH = {
    **_BERT,
    "conv_dim": (32, 32, 32),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_feat_extract_layers": 3,
}
_CLIP_TEXT = {**_BERT, "bos_token_id": 0, "eos_token_id": 2}
_HEADS_PER_STAGE = {"num_attention_heads": [1, 2, 4, 4], "hidden_sizes": [16, 32, 64, 64]}


def _entry(
    name: str,
    model: Any,
    config: Any,
    sizes: dict[str, Any],
    inputs: Inputs,
    *,
    attention: bool = True,
    **more: Any,
) -> Entry:
    def make() -> Made:
        return model(config(**{**sizes, **more})), inputs()

    return Entry(f"transformers/{name}", make, residual=True, attention=attention)


_ENCODERS = (
    _entry("bert", hf.BertForSequenceClassification, hf.BertConfig, _BERT, _text),
    _entry("bert_masked", hf.BertForMaskedLM, hf.BertConfig, _BERT, _text),
    _entry("bert_eager", hf.BertModel, hf.BertConfig, _BERT, _text, attn_implementation="eager"),
    _entry("roberta", hf.RobertaForTokenClassification, hf.RobertaConfig, _BERT, _text, pad_token_id=1),
    _entry("electra", hf.ElectraForPreTraining, hf.ElectraConfig, _BERT, _text, embedding_size=32),
    _entry("albert", hf.AlbertForSequenceClassification, hf.AlbertConfig, _BERT, _text, embedding_size=32),
    _entry("mpnet", hf.MPNetForSequenceClassification, hf.MPNetConfig, _BERT, _text),
    _entry(
        "deberta_v2",
        hf.DebertaV2ForSequenceClassification,
        hf.DebertaV2Config,
        _BERT,
        _text,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
    ),
    _entry(
        "modernbert",
        hf.ModernBertForSequenceClassification,
        hf.ModernBertConfig,
        _BERT,
        _text,
        pad_token_id=0,
        cls_token_id=1,
    ),
    _entry(
        "squeezebert", hf.SqueezeBertForSequenceClassification, hf.SqueezeBertConfig, _BERT, _text, embedding_size=64
    ),
    _entry("roformer", hf.RoFormerForSequenceClassification, hf.RoFormerConfig, _BERT, _text),
    _entry("fnet", hf.FNetForSequenceClassification, hf.FNetConfig, _BERT, _causal, attention=False),
    _entry(
        "distilbert",
        hf.DistilBertForSequenceClassification,
        hf.DistilBertConfig,
        {"vocab_size": _VOCABULARY, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128},
        _text,
        max_position_embeddings=40,
    ),
)

_DECODERS = (
    _entry(
        "gpt2",
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {"vocab_size": _VOCABULARY, "n_positions": 40, "n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False},
        _causal,
    ),
    _entry(
        "gptj",
        hf.GPTJForCausalLM,
        hf.GPTJConfig,
        {"vocab_size": _VOCABULARY, "n_positions": 40, "n_embd": 64, "n_layer": 2, "n_head": 4, "use_cache": False},
        _causal,
        rotary_dim=8,
    ),
    _entry(
        "bloom",
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {"vocab_size": _VOCABULARY, "hidden_size": 64, "n_layer": 2, "n_head": 4, "use_cache": False},
        _causal,
    ),
    _entry(
        "opt",
        hf.OPTForCausalLM,
        hf.OPTConfig,
        {
            "vocab_size": _VOCABULARY,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "max_position_embeddings": 40,
            "word_embed_proj_dim": 64,
            "use_cache": False,
        },
        _text,
    ),
    _entry("llama", hf.LlamaForCausalLM, hf.LlamaConfig, _LLAMA, _text),
    _entry("mistral", hf.MistralForCausalLM, hf.MistralConfig, _LLAMA, _causal, sliding_window=8),
    _entry("qwen2", hf.Qwen2ForCausalLM, hf.Qwen2Config, _LLAMA, _causal),
    _entry("qwen3", hf.Qwen3ForCausalLM, hf.Qwen3Config, _LLAMA, _causal, head_dim=16),
    _entry("gemma", hf.GemmaForCausalLM, hf.GemmaConfig, _LLAMA, _causal, head_dim=16),
    _entry("gemma2", hf.Gemma2ForCausalLM, hf.Gemma2Config, _LLAMA, _causal, head_dim=16),
    _entry("phi", hf.PhiForCausalLM, hf.PhiConfig, {**_LLAMA, "num_key_value_heads": 4}, _causal),
    _entry("gpt_neox", hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {**_BERT, "use_cache": False}, _causal),
    _entry("stablelm", hf.StableLmForCausalLM, hf.StableLmConfig, _LLAMA, _causal),
    _entry("falcon", hf.FalconForCausalLM, hf.FalconConfig, {**_BERT, "use_cache": False}, _causal),
    _entry(
        "mixtral", hf.MixtralForCausalLM, hf.MixtralConfig, _LLAMA, _causal, num_local_experts=4, num_experts_per_tok=2
    ),
)

_ENCODER_DECODERS = (
    _entry(
        "t5",
        hf.T5ForConditionalGeneration,
        hf.T5Config,
        {"vocab_size": _VOCABULARY, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
        _translation,
        use_cache=False,
        decoder_start_token_id=0,
    ),
    _entry("bart", hf.BartForConditionalGeneration, hf.BartConfig, _BART, _translation),
    _entry("marian", hf.MarianMTModel, hf.MarianConfig, _BART, _translation, pad_token_id=1, decoder_start_token_id=0),
    _entry("pegasus", hf.PegasusForConditionalGeneration, hf.PegasusConfig, _BART, _translation),
)

_VISION = (
    _entry("vit", hf.ViTForImageClassification, hf.ViTConfig, _VIT, _image(32)),
    _entry("deit", hf.DeiTForImageClassificationWithTeacher, hf.DeiTConfig, _VIT, _image(32)),
    _entry(
        "beit",
        hf.BeitForImageClassification,
        hf.BeitConfig,
        _VIT,
        _image(32),
        use_relative_position_bias=True,
        vocab_size=100,
    ),
    _entry("dinov2", hf.Dinov2Model, hf.Dinov2Config, _VIT, _image(32), mlp_ratio=2),
    _entry("yolos", hf.YolosForObjectDetection, hf.YolosConfig, {**_VIT, "image_size": [32, 32]}, _image(32)),
    _entry("siglip_vision", hf.SiglipForImageClassification, hf.SiglipConfig, {"vision_config": _VIT}, _image(32)),
    _entry(
        "clip",
        hf.CLIPModel,
        hf.CLIPConfig,
        {"text_config": _CLIP_TEXT, "vision_config": _VIT},
        _clip,
        projection_dim=32,
    ),
    _entry(
        "swin",
        hf.SwinForImageClassification,
        hf.SwinConfig,
        {"image_size": 64, "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
        _image(64),
    ),
    _entry(
        "segformer",
        hf.SegformerForSemanticSegmentation,
        hf.SegformerConfig,
        _HEADS_PER_STAGE,
        _image(64),
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
    ),
    _entry("pvt", hf.PvtForImageClassification, hf.PvtConfig, _HEADS_PER_STAGE, _image(64), image_size=64),
    _entry(
        "mobilevit",
        hf.MobileViTForImageClassification,
        hf.MobileViTConfig,
        {"hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 128], "image_size": 64},
        _image(64),
    ),
    _entry(
        "convnext",
        hf.ConvNextForImageClassification,
        hf.ConvNextConfig,
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]},
        _image(64),
        attention=False,
    ),
    _entry(
        "poolformer",
        hf.PoolFormerForImageClassification,
        hf.PoolFormerConfig,
        {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]},
        _image(64),
        attention=False,
    ),
)

_SPEECHES = (
    _entry("wav2vec2", hf.Wav2Vec2ForCTC, hf.Wav2Vec2Config, _SPEECH, _audio),
    _entry("hubert", hf.HubertForCTC, hf.HubertConfig, _SPEECH, _audio),
    _entry("wavlm", hf.WavLMForCTC, hf.WavLMConfig, _SPEECH, _audio, num_buckets=16, max_bucket_distance=32),
    _entry(
        "whisper",
        hf.WhisperForConditionalGeneration,
        hf.WhisperConfig,
        {k: v for k, v in _BART.items() if k != "max_position_embeddings"},
        _spectrogram,
        num_mel_bins=16,
        max_source_positions=20,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    ),
    _entry(
        "audio_spectrogram_transformer",
        hf.ASTForAudioClassification,
        hf.ASTConfig,
        {**_VIT, "max_length": 48, "num_mel_bins": 32, "frequency_stride": 8, "time_stride": 8},
        lambda: (torch.randn(1, 48, 32),),
    ),
)

ENTRIES = (*_ENCODERS, *_DECODERS, *_ENCODER_DECODERS, *_VISION, *_SPEECHES)
