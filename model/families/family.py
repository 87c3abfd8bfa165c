"""Families of decoder-only language models: where each keeps the parts that the loop needs.

Most families share the module names of Llama. `FAMILIES` lists those that differ; the key is the
`model_type` in config.json. A family without an entry is tried with Llama's names.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """Dotted module names of a family; the defaults are those of Llama.

    Attributes:
        body: module that maps token ids to the head's input, below `base_model`; "" for
            `base_model` itself.
        layers: list of the decoder layers, below `body`.
        final_norm: last norm, below `body`.
        position_table: learned position embeddings, below `body`; "" for none.
        position_offset: number of unused entries at the start of that table.
        rotary: rotary embedding, below `body`; "" for none.
        project_in: map from the word embedding's width to the layers', below `body`; "" for none.
        project_out: the reverse map after the final norm, below `body`; "" for none.
        attention_output: last linear map of the attention sublayer, below a layer.
        ffn_output: last linear map of the feed-forward sublayer, below a layer.
        dropout: hidden dropout probabilities of a layer, floats or `torch.nn.Dropout` modules
            below it; empty for a family without hidden dropout.
    """

    body: str = ""
    layers: str = "layers"
    final_norm: str = "norm"
    position_table: str = ""
    position_offset: int = 0
    rotary: str = "rotary_emb"
    project_in: str = ""
    project_out: str = ""
    attention_output: str = "self_attn.o_proj"
    ffn_output: str = "mlp.down_proj"
    dropout: tuple[str, ...] = ()


LLAMA = Family()

FAMILIES: Mapping[str, Family] = {
    "opt": Family(
        body="decoder",
        final_norm="final_layer_norm",
        position_table="embed_positions",
        position_offset=2,
        rotary="",
        project_in="project_in",
        project_out="project_out",
        attention_output="self_attn.out_proj",
        ffn_output="fc2",
        dropout=("dropout",),
    ),
    "gpt2": Family(
        layers="h",
        final_norm="ln_f",
        position_table="wpe",
        rotary="",
        attention_output="attn.c_proj",
        ffn_output="mlp.c_proj",
        dropout=("attn.resid_dropout", "mlp.dropout"),
    ),
    "gpt_neox": Family(
        final_norm="final_layer_norm",
        attention_output="attention.dense",
        ffn_output="mlp.dense_4h_to_h",
        dropout=("post_attention_dropout", "post_mlp_dropout"),
    ),
    "phi": Family(
        final_norm="final_layernorm",
        attention_output="self_attn.dense",
        ffn_output="mlp.fc2",
        dropout=("resid_dropout",),
    ),
    "phi3": Family(dropout=("resid_attn_dropout", "resid_mlp_dropout")),
    "starcoder2": Family(
        ffn_output="mlp.c_proj",
        dropout=("self_attn.residual_dropout", "mlp.residual_dropout"),
    ),
    **dict.fromkeys(
        (
            "gemma",
            "gemma2",
            "gemma3_text",
            "llama",
            "mistral",
            "olmo2",
            "olmo3",
            "qwen2",
            "qwen3",
            "smollm3",
        ),
        LLAMA,
    ),
}
"""`model_type` of config.json -> family, for all families that are tested in every respect. Others
are accepted if their logits pass the comparison at loading."""


def family_of(config: PretrainedConfig) -> Family:
    """The family of a language model; Llama's module names for an unknown one."""
    return FAMILIES.get(config.model_type, LLAMA)


def text_positions(config: PretrainedConfig) -> int:
    """Maximum number of text tokens, begin token included.

    A model with longrope uses other frequencies for texts that are longer than in its
    pretraining, for all positions at once. Texts of one batch would then depend on each other, so
    the limit is the shorter length.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    limit = int(config.max_position_embeddings)
    if rope.get("rope_type") == "longrope":
        return min(limit, int(rope.get("original_max_position_embeddings", limit)))
    return limit
