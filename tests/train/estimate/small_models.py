"""Small language models of several families, and measurements of a training step."""

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from epalm.model.engine.language_model import freeze
from epalm.model.engine.model_batch import Batch
from epalm.model.epalm import EPALM
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.storage_tracking import SavedStorages

SHAPE = {
    "vocab_size": 211,
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
WIDE = SHAPE | {"intermediate_size": 256, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = WIDE | {"num_key_value_heads": 2}

CONFIGS: dict[str, PretrainedConfig] = {
    "opt": OPTConfig(**SHAPE, ffn_dim=384, word_embed_proj_dim=96, dropout=0.0),
    "opt-post-norm": OPTConfig(
        **SHAPE, ffn_dim=384, word_embed_proj_dim=96, do_layer_norm_before=False, dropout=0.0
    ),
    "llama": LlamaConfig(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=32),
    "gpt_neox": GPTNeoXConfig(**WIDE),
    "gpt2": GPT2Config(**SHAPE, bos_token_id=1, eos_token_id=2),
    "gemma2": Gemma2Config(**GROUPED, head_dim=24, query_pre_attn_scalar=24, sliding_window=16),
}
"""OPT is the reference; the others differ in norms, activations, rotations, heads and softcaps."""


def small_lm(family: str) -> PreTrainedModel:
    """A random frozen language model with 4 layers of width 96, on the current device."""
    torch.manual_seed(0)
    return freeze(AutoModelForCausalLM.from_config(CONFIGS[family]))


def batch_of(load: StepShape, width: int = 8, features: int = 2) -> Batch:
    """A batch of random texts of these sizes, for features of this width and number."""
    lengths = torch.full((load.samples,), load.longest)
    for sample in range(load.samples * load.longest - load.text_tokens):
        lengths[1 + sample % (load.samples - 1)] -= 1
    ids = torch.randint(4, 200, (load.samples, load.longest))
    mask = (torch.arange(load.longest) < lengths[:, None]).long()
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    pictures = torch.arange(load.samples) % load.images
    return Batch(torch.randn(load.images, features, width), ids, mask, labels, pictures)


def measure(model: EPALM, load: StepShape) -> int:
    """Bytes that autograd keeps of a step, the model's own tensors left out."""

    def same(tensor: Tensor) -> Tensor:
        return tensor

    saved = SavedStorages([*model.parameters(), *model.buffers()])
    with torch.autograd.graph.saved_tensors_hooks(saved, same):
        losses = model(batch_of(load, features=_stored(model))).values
    assert losses.requires_grad
    return saved.nbytes


def _stored(model: EPALM) -> int:
    """Number of stored features up to the last one that the model reads."""
    return 2 if model.feature_indices is None else int(model.feature_indices.max()) + 1
