"""Small stand-ins that several test folders share."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""OPT's first four tokens."""


def save_language_model(
    folder: Path, words: Sequence[str], *, layers: int = 3, width: int = 16, spare: int = 0
) -> Path:
    """A random pre-LN OPT with a word tokenizer in OPT's conventions, as a local folder.

    Args:
        folder: where to; kept if it is there.
        words: the vocabulary behind `SPECIAL`.
        layers: decoder layers.
        width: hidden size, two heads.
        spare: embedding rows behind the vocabulary.
    """
    if folder.exists():
        return folder
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder)
    torch.manual_seed(3)
    config = OPTConfig(
        vocab_size=len(vocabulary) + spare,
        hidden_size=width,
        ffn_dim=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        word_embed_proj_dim=width,
        max_position_embeddings=32,
        init_std=0.3,
    )
    OPTForCausalLM(config).save_pretrained(folder)
    return folder
