"""The language model's tokenizer and its special tokens, whichever of them it has."""

import logging
from collections.abc import Sequence
from functools import partial

from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.model.families.model_source import check_vocabulary_file, no_vocabulary
from epalm.untrusted.hub_config import load_message, loading
from epalm.untrusted.quoted_values import shown

AUTO_BEGIN = "auto"
"""The tokenizer's own begin-of-text tokens; where it adds none, its begin token or end token."""

NO_BEGIN = "none"
"""No begin-of-text token."""

ANSWER_SEPARATOR = "</a>"
"""The official implementation's extra token between question and answer, with an untrained
embedding."""

LINE_BREAK = "\n"
"""What separates question and answer where no word embedding is left for `ANSWER_SEPARATOR`."""

logger = logging.getLogger(__name__)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The language model's tokenizer; no code from its files is run.

    Args:
        name: hub id or local folder.

    Raises:
        ModelError: the name matches no tokenizer, or one without a vocabulary: where there are no
            files of a tokenizer, transformers makes an empty one of the model's family.
    """
    check_vocabulary_file(name)
    with loading(partial(load_message, "tokenizer", name)):
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    tokenizer: PreTrainedTokenizerBase = loaded
    if not tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys():
        raise no_vocabulary(name)
    return tokenizer


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without the special tokens that the tokenizer adds to texts."""
    if not texts:
        return []
    encoded: list[list[int]] = tokenizer(
        list(texts),
        add_special_tokens=False,
        verbose=False,  # no warning of long texts: `length_check` rejects them by name
    ).input_ids
    return encoded


def begin_ids(tokenizer: PreTrainedTokenizerBase, begin_token: str) -> list[int]:
    """Ids of the tokens that begin every text.

    Args:
        tokenizer: tokenizer of the language model.
        begin_token: `AUTO_BEGIN`, `NO_BEGIN`, or the text of a token.

    Raises:
        ModelError: the tokenizer has no token of that text, or none to begin a text with.
    """
    if begin_token == NO_BEGIN:
        return []
    if begin_token != AUTO_BEGIN:
        number = tokenizer.get_vocab().get(begin_token)
        if number is None:
            raise ModelError(
                f"begin_token is {shown(begin_token)}, which is no token of the tokenizer of "
                f"{tokenizer.name_or_path}: give one of {', '.join(tokenizer.all_special_tokens)}, "
                f"or {AUTO_BEGIN}, or {NO_BEGIN}"
            )
        return [number]
    if own := _own_begin(tokenizer):
        return own
    for number in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if number is not None:
            return [int(number)]
    raise ModelError(
        f"the tokenizer of {tokenizer.name_or_path} has neither a begin token nor an end token: "
        "name the token that begins a text with --set begin_token=TOKEN"
    )


def _own_begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that the tokenizer itself puts before a text; those after it are left out."""
    plain = token_ids(tokenizer, ["a"])[0]
    complete: list[int] = tokenizer("a").input_ids
    for start in range(len(complete) - len(plain) + 1):
        if complete[start : start + len(plain)] == plain:
            return complete[:start]
    return []


def end_ids(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> tuple[int, ...]:
    """Ids of all end tokens; the first one ends texts in training, any of them a generated text.

    The first one is the tokenizer's; config.json may list others.

    Raises:
        ModelError: neither the tokenizer nor config.json names an end token.
    """
    own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ends = tuple(dict.fromkeys([*own, *configured_ends(config)]))
    if not ends:
        raise ModelError(
            f"neither the tokenizer of {tokenizer.name_or_path} nor config.json names an end "
            'token: add e.g. "eos_token": "</s>" to tokenizer_config.json'
        )
    return ends


def configured_ends(config: PretrainedConfig) -> tuple[int, ...]:
    """The end tokens of config.json, which has one number, a list of them, or none."""
    ends = getattr(config, "eos_token_id", None)
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)


def pad_id(tokenizer: PreTrainedTokenizerBase, ends: Sequence[int], vocabulary_size: int) -> int:
    """Id of the pad token; without one the end token pads, and is masked like any padding.

    A pad token that was added to the tokenizer alone has no word embedding, and is not used.

    Args:
        tokenizer: tokenizer of the language model.
        ends: ids of all end tokens.
        vocabulary_size: number of word embeddings.
    """
    own = tokenizer.pad_token_id
    return ends[0] if own is None or own >= vocabulary_size else int(own)


def check_embedded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[int]], vocabulary_size: int
) -> None:
    """Reject tokens without a word embedding, as those of another model's tokenizer.

    Args:
        tokenizer: tokenizer of the language model.
        texts: ids of each text.
        vocabulary_size: number of word embeddings.

    Raises:
        ModelError: names the first such token, and both sizes.
    """
    unknown = next((number for ids in texts for number in ids if number >= vocabulary_size), None)
    if unknown is not None:
        raise ModelError(
            f"the language model has {vocabulary_size:,} word embeddings, none for token "
            f"{unknown:,} of its tokenizer ({shown(tokenizer.convert_ids_to_tokens(unknown))}): "
            f"put the tokenizer that it was trained with into {tokenizer.name_or_path}"
        )


def alters_beginnings(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text has other tokens alone than as the end of a longer text.

    SentencePiece-like tokenizers put a space before each text, so that " dog" has two spaces.
    """
    parts = (("a", " b"), ("a\n", "b"))
    for before, after in parts:
        head, alone, joint = token_ids(tokenizer, [before, after, before + after])
        if joint != head + alone:
            return True
    return False


def add_separator(tokenizer: PreTrainedTokenizerBase, template: str, vocabulary_size: int) -> None:
    """Add the answer separator to the tokenizer if the template uses it.

    Args:
        tokenizer: tokenizer of the language model, changed in place.
        template: text of the template, which decides whether a separator is needed.
        vocabulary_size: number of word embeddings; the separator uses the first one without a
            token.

    Raises:
        ModelError: every word embedding has a token already.
    """
    if ANSWER_SEPARATOR not in template:
        return
    tokenizer.add_tokens([ANSWER_SEPARATOR], special_tokens=True)
    if len(tokenizer) > vocabulary_size:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens with {ANSWER_SEPARATOR!r}, the language "
            f"model only {vocabulary_size} word embeddings: use a template without this token, "
            "e.g. '{prompt} {answer}'"
        )


def separated_template(
    tokenizer: PreTrainedTokenizerBase, template: str, vocabulary_size: int
) -> str:
    """The template with a separator that the language model has an embedding for.

    Args:
        tokenizer: tokenizer of the language model, not changed.
        template: text of the template.
        vocabulary_size: number of word embeddings.

    Returns:
        The template, with `LINE_BREAK` in place of `ANSWER_SEPARATOR` where every word embedding
        has a token already.
    """
    known = ANSWER_SEPARATOR in tokenizer.get_vocab()
    if ANSWER_SEPARATOR not in template or known or len(tokenizer) < vocabulary_size:
        return template
    logger.warning(
        "every word embedding of the language model has a token, none is left for %r: a line "
        "break separates question and answer; --set qa_template=TEXT sets another text",
        ANSWER_SEPARATOR,
    )
    return template.replace(ANSWER_SEPARATOR, LINE_BREAK)
