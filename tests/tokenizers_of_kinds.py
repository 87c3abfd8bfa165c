"""Small tokenizers of the kinds that language models come with, trained on a few sentences."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SENTENCES = (
    "what color is the lamp on the desk?",
    "what color is the cup on the wall?",
    "a red lamp and a blue cup",
    "what color red blue green white",
    "the color is red. the color is blue. the color is green. the color is white.",
    "Answer: red\nAnswer: blue\nAnswer: green\nAnswer: white\n",
)

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|system|>Today is {{ strftime_now('%d %b %Y') }}."
    "<|end|>\n{% endif %}{% for message in messages %}<|{{ message['role'] }}|>"
    "{{ message['content'] | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A template with a system message that states the date, like that of some published models."""

CHAT_TOKENS = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")


def byte_level(*, special: Sequence[str] = ("<|endoftext|>",)) -> PreTrainedTokenizerFast:
    """Byte-level BPE with an end token and nothing else, like GPT-2, SmolLM2 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(special),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[0])


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """BPE of texts with a space before them, with a begin token and no pad token, like Llama 2."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    words = {word for sentence in SENTENCES for word in sentence.split()}
    tokenizer.train_from_iterator([*sorted(words), "\n"] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def metaspace_unigram() -> PreTrainedTokenizerFast:
    """Unigram pieces over words with their space, which ends texts with an end token, like T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=90,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def chat() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a chat template, whose answers end in another token."""
    tokenizer = byte_level(special=("<|endoftext|>", *CHAT_TOKENS))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


TOKENIZERS = {
    "byte_level": byte_level,
    "sentencepiece_like": sentencepiece_like,
    "metaspace_unigram": metaspace_unigram,
    "chat": chat,
}
"""Name -> function that makes the tokenizer."""


def saved(folder: Path, kind: str) -> Path:
    """The folder with the tokenizer's files added."""
    TOKENIZERS[kind]().save_pretrained(folder)
    return folder
