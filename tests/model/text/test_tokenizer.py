"""Special tokens of tokenizers of several kinds, and the answer separator."""

import logging
from pathlib import Path

import pytest
from transformers import AutoConfig, GPT2Tokenizer, PretrainedConfig, PreTrainedTokenizerFast

from epalm.errors import ModelError
from epalm.model.families.family import FAMILIES
from epalm.model.text.tokenizer import (
    add_separator,
    alters_beginnings,
    begin_ids,
    end_ids,
    load_tokenizer,
    pad_id,
    separated_template,
)
from tests.tokenizers_of_kinds import TOKENIZERS


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_model_without_files_of_a_tokenizer_is_refused(model_type: str, tmp_path: Path) -> None:
    """For some families transformers would make a tokenizer without tokens."""
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    reason = (
        rf"^{tmp_path} has no tokenizer \(its folder has config.json\): expected tokenizer.json, "
        rf".*from_pretrained\('HUB_ID'\).save_pretrained\('{tmp_path}'\)\"$"
    )
    with pytest.raises(ModelError, match=reason):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_of_special_tokens_alone_is_refused(tmp_path: Path) -> None:
    GPT2Tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"has no tokenizer \(its folder has tokenizer.json, "):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "begin"),
    [
        ("byte_level", "<|endoftext|>"),  # none of its own, and no begin token
        ("sentencepiece_like", "<s>"),
        ("metaspace_unigram", "</s>"),  # its own end token after the text does not count
    ],
)
def test_a_text_begins_with_the_tokenizers_own_token_or_its_begin_or_end_token(
    kind: str, begin: str
) -> None:
    tokenizer = TOKENIZERS[kind]()
    assert begin_ids(tokenizer, "auto") == [tokenizer.convert_tokens_to_ids(begin)]
    assert begin_ids(tokenizer, "none") == []


def test_a_begin_token_is_preferred_to_an_end_token_where_the_tokenizer_adds_none() -> None:
    tokenizer = TOKENIZERS["chat"]()
    tokenizer.bos_token = "<|user|>"
    assert begin_ids(tokenizer, "auto") == [tokenizer.convert_tokens_to_ids("<|user|>")]


def test_a_named_token_begins_a_text_and_an_unknown_one_is_refused() -> None:
    tokenizer = TOKENIZERS["chat"]()
    assert begin_ids(tokenizer, "<|system|>") == [tokenizer.convert_tokens_to_ids("<|system|>")]
    with pytest.raises(ModelError, match=r"begin_token is '<s>', .*give one of <\|endoftext\|>"):
        begin_ids(tokenizer, "<s>")


def test_end_tokens_are_the_tokenizers_and_all_that_config_json_lists() -> None:
    tokenizer = TOKENIZERS["byte_level"]()
    assert end_ids(tokenizer, PretrainedConfig(eos_token_id=7)) == (0, 7)
    assert end_ids(tokenizer, PretrainedConfig(eos_token_id=[3, 0, 9])) == (0, 3, 9)
    assert end_ids(tokenizer, PretrainedConfig()) == (0,)
    tokenizer.eos_token = None
    assert end_ids(tokenizer, PretrainedConfig(eos_token_id=[3, 9])) == (3, 9)
    with pytest.raises(ModelError, match=r'names an end token: add e\.g\. "eos_token"'):
        end_ids(tokenizer, PretrainedConfig())


def test_the_end_token_pads_without_a_pad_token() -> None:
    assert pad_id(TOKENIZERS["byte_level"](), (5, 6), 400) == 5
    assert pad_id(TOKENIZERS["metaspace_unigram"](), (1,), 400) == 0


def test_an_added_pad_token_without_a_word_embedding_is_not_used() -> None:
    tokenizer = TOKENIZERS["byte_level"]()
    size = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    assert pad_id(tokenizer, (5,), size) == 5
    assert pad_id(tokenizer, (5,), size + 1) == size


@pytest.mark.parametrize(
    ("kind", "alters"),
    [("byte_level", False), ("sentencepiece_like", True), ("metaspace_unigram", True)],
)
def test_tokenizers_that_put_a_space_before_a_text_are_found(kind: str, alters: bool) -> None:  # noqa: FBT001
    assert alters_beginnings(TOKENIZERS[kind]()) is alters


def test_the_separator_takes_a_spare_embedding_or_becomes_a_line_break(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokenizer: PreTrainedTokenizerFast = TOKENIZERS["byte_level"]()
    size, template = len(tokenizer), "{prompt}?</a>{answer}"
    with caplog.at_level(logging.WARNING):
        assert separated_template(tokenizer, template, size) == "{prompt}?\n{answer}"
    assert "a line break separates question and answer" in caplog.text
    assert len(tokenizer) == size
    with pytest.raises(ModelError, match="use a template without this token"):
        add_separator(TOKENIZERS["byte_level"](), template, size)
    assert separated_template(tokenizer, template, size + 1) == template
    add_separator(tokenizer, template, size + 1)
    assert tokenizer.convert_tokens_to_ids("</a>") == size
    assert separated_template(tokenizer, template, size + 1) == template
