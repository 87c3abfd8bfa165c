"""Encodes prompts and answers, with the same token ids in training and in generation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.model.method.model_settings import ModelSettings, Template
from epalm.model.text.chat_frame import ChatFrame, chat_frame
from epalm.model.text.tokenizer import (
    ANSWER_SEPARATOR,
    AUTO_BEGIN,
    NO_BEGIN,
    add_separator,
    alters_beginnings,
    begin_ids,
    check_embedded,
    end_ids,
    pad_id,
    separated_template,
    token_ids,
)

CHECKED_TEXTS = 1000
"""Number of texts that `TextEncoder.merged_borders` encodes."""

SAMPLE_PROMPT = "a"
"""Prompt before the answers where a tokenizer gives them other tokens than alone."""


@dataclass(frozen=True)
class TextEncoder:
    """Encodes prompts and answers for one language model, and decodes generated tokens.

    A text is [begin tokens | prompt | answer | end token]. The tokens of an answer depend on the
    template and on nothing else, so that all questions share the answers of a closed vocabulary.

    Attributes:
        tokenizer: tokenizer with the answer separator added if the template uses it.
        template: text format of prompts and answers.
        begin: ids of the tokens that begin every text.
        ends: ids of all end tokens; the first one ends texts in training, any of them a generated
            text.
        pad: id of the padding, which is always masked.
        vocabulary_size: number of the language model's word embeddings.
        chat: what is around a message and its answer; None for plain text.
        in_context: whether answers are encoded after a prompt, because the tokenizer alters the
            beginning of a text.
    """

    tokenizer: PreTrainedTokenizerBase
    template: Template
    begin: tuple[int, ...]
    ends: tuple[int, ...]
    pad: int
    vocabulary_size: int
    chat: ChatFrame | None = None
    in_context: bool = False

    @classmethod
    def create(
        cls, tokenizer: PreTrainedTokenizerBase, template: Template, config: PretrainedConfig
    ) -> "TextEncoder":
        """The encoder of a language model's texts.

        Args:
            tokenizer: tokenizer of the language model; the answer separator is added in place.
            template: text format of prompts and answers.
            config: configuration of the language model.

        Raises:
            ModelError: a token that is needed does not exist, or there is no chat template.
        """
        add_separator(tokenizer, template.text, config.vocab_size)
        chat = chat_frame(tokenizer) if template.chat else None
        own_begin = chat is not None and template.begin_token == AUTO_BEGIN
        begin = begin_ids(tokenizer, NO_BEGIN if own_begin else template.begin_token)
        ends = end_ids(tokenizer, config)
        if chat is not None and chat.end is not None:
            ends = tuple(dict.fromkeys([chat.end, *ends]))
        return cls(
            tokenizer,
            template,
            tuple(begin),
            ends,
            pad_id(tokenizer, ends, config.vocab_size),
            config.vocab_size,
            chat,
            in_context=alters_beginnings(tokenizer),
        )

    def prompt_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, begin tokens included.

        Raises:
            ModelError: a prompt has no token, so that nothing could predict its answer, or a token
                without a word embedding.
        """
        encoded = token_ids(self.tokenizer, [self._head(prompt) for prompt in prompts])
        if not self.begin and not all(encoded):
            raise ModelError(
                "a prompt has no token for its answer to follow: with begin_token=none the "
                "template needs a text before {answer}, e.g. --set caption_template='A photo of "
                "{answer}'; or leave begin_token at its default"
            )
        return self._embedded([[*self.begin, *ids] for ids in encoded])

    def answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        """Token ids of each answer, end token included.

        The text of end tokens inside an answer is removed, as in the official implementation.

        Raises:
            ModelError: an answer has a token without a word embedding.
        """
        return self._embedded([[*ids, self.ends[0]] for ids in self._answer_ids(answers)])

    def decode(self, ids: Tensor) -> list[str]:
        """The texts before the first end token of generated ids (B, T), without special tokens."""
        kept = []
        for row in ids.tolist():
            end = next((place for place, token in enumerate(row) if token in self.ends), len(row))
            kept.append(row[:end])
        texts = self.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return [str(text).strip() for text in texts]

    def collate_prompts(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tensors (input_ids, attention_mask), (B, T) int64 each, left-padded for generation."""
        encoded = self.prompt_ids(prompts)
        width = max(len(ids) for ids in encoded)
        ids = torch.tensor([[self.pad] * (width - len(ids)) + ids for ids in encoded])
        mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in encoded])
        return ids, mask

    def merged_borders(self, pairs: Sequence[tuple[str, str]]) -> int:
        """Number of texts whose tokens differ if prompt and answer are encoded as one text.

        Args:
            pairs: prompts and answers.
        """
        heads = [self._head(prompt) for prompt, _ in pairs]
        tails = self._answer_ids([answer for _, answer in pairs])
        texts = [self._head(prompt) + self._tail(answer) for prompt, answer in pairs]
        encoded = token_ids(self.tokenizer, heads), tails, token_ids(self.tokenizer, texts)
        return sum(head + tail != joint for head, tail, joint in zip(*encoded, strict=True))

    def _embedded(self, texts: list[list[int]]) -> list[list[int]]:
        check_embedded(self.tokenizer, texts, self.vocabulary_size)
        return texts

    def _head(self, prompt: str) -> str:
        """The text before an answer, without begin tokens."""
        question = self.template.question(prompt)
        return question if self.chat is None else self.chat.before + question + self.chat.between

    def _tail(self, answer: str) -> str:
        """The text of an answer as it follows `_head`, without the texts of end tokens."""
        text = answer if self.chat is not None else self.template.answer(answer)
        for end in self.ends:
            text = text.replace(str(self.tokenizer.convert_ids_to_tokens(end)), "")
        return text

    def _answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        tails = [self._tail(answer) for answer in answers]
        alone = token_ids(self.tokenizer, tails)
        if not self.in_context:
            return alone
        head = self._head(SAMPLE_PROMPT)
        before = token_ids(self.tokenizer, [head])[0]
        joint = token_ids(self.tokenizer, [head + tail for tail in tails])
        return [
            ids[len(before) :] if ids[: len(before)] == before else apart
            for ids, apart in zip(joint, alone, strict=True)
        ]


def resolve_template(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, vocabulary_size: int
) -> str:
    """The text of the template that a run is trained with and that its record keeps.

    Args:
        settings: settings of the model, from a recipe.
        tokenizer: tokenizer of the language model, not changed.
        vocabulary_size: number of word embeddings.

    Returns:
        The settings' template with a separator that the language model has: none in a chat, whose
        template separates message and answer, and a line break where no word embedding is left.
    """
    if settings.chat:
        return settings.template.replace(ANSWER_SEPARATOR, "")
    return separated_template(tokenizer, settings.template, vocabulary_size)
