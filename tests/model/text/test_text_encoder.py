"""Texts of training and generation have the same tokens, with tokenizers of every kind."""

from typing import Any

import pytest
import torch
from transformers import PretrainedConfig

from epalm.demo.stages import LANGUAGE_MODEL
from epalm.errors import ModelError, UsageError
from epalm.model.engine.language_model import load_config
from epalm.model.method.model_settings import Template
from epalm.model.text.chat_frame import chat_frame
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from tests.tokenizers_of_kinds import CHAT_TEMPLATE, TOKENIZERS

PLAIN = ("byte_level", "sentencepiece_like", "metaspace_unigram")
TEMPLATES = (
    "{prompt} {answer}",
    "{prompt}\n{answer}",
    "Question: {prompt} Answer: {answer}",
    "{answer}",
)
PROMPTS = ["what color is the lamp?", "what color is the cup on the wall?"]
ANSWERS = ["red", "a blue cup", "white"]
REQUEST = Template("{prompt} {answer}", chat=True)


def encoder(kind: str, template: Template | str, **config: Any) -> TextEncoder:  # noqa: ANN401
    tokenizer = TOKENIZERS[kind]()
    text = Template(template) if isinstance(template, str) else template
    config = {"vocab_size": len(tokenizer)} | config
    return TextEncoder.create(tokenizer, text, PretrainedConfig(**config))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("template", TEMPLATES)
def test_prompt_and_answer_have_the_tokens_of_one_text(kind: str, template: str) -> None:
    text = encoder(kind, template)
    tokenizer = text.tokenizer
    prompts = text.prompt_ids(PROMPTS)
    for prompt, ids in zip(PROMPTS, prompts, strict=True):
        for answer, tail in zip(ANSWERS, text.answer_ids(ANSWERS), strict=True):
            whole = template.replace("{prompt}", prompt).replace("{answer}", answer)
            natural = tokenizer(whole, add_special_tokens=False).input_ids
            assert ids + tail == [*text.begin, *natural, text.ends[0]]
            assert text.decode(torch.tensor([tail])) == [answer]
    assert text.merged_borders([(prompt, "red") for prompt in PROMPTS]) == 0


def test_a_token_without_a_word_embedding_is_named() -> None:
    text = encoder("byte_level", "{prompt} {answer}", vocab_size=258)  # those of single bytes
    assert text.prompt_ids(["z"])
    reason = r"has 258 word embeddings, none for token \d+ of its tokenizer \('\S+'\): put the"
    with pytest.raises(ModelError, match=reason):
        text.prompt_ids(PROMPTS)
    with pytest.raises(ModelError, match=reason):
        text.answer_ids(["white"])


@pytest.mark.parametrize("template", [*TEMPLATES, "{prompt}?</a>{answer}", "{prompt}{answer}"])
def test_texts_of_opt_have_the_tokens_of_prompt_and_answer_encoded_apart(template: str) -> None:
    folder = str(LANGUAGE_MODEL)
    config = load_config(folder, "fp32")
    text = TextEncoder.create(load_tokenizer(folder), Template(template), config)
    tokenizer, answers = text.tokenizer, [*ANSWERS, "", " 2", "a</s>b", "\n"]
    head = template.removesuffix("{answer}")
    for prompt, ids in zip(PROMPTS, text.prompt_ids(PROMPTS), strict=True):
        assert ids == tokenizer(head.replace("{prompt}", prompt).rstrip(" ")).input_ids
    spaces = " " * (len(head) - len(head.rstrip(" ")))
    for answer, ids in zip(answers, text.answer_ids(answers), strict=True):
        clean = (spaces + answer).replace("</s>", "")
        assert ids == [*tokenizer(clean, add_special_tokens=False).input_ids, 2]
    assert (text.begin, text.ends, text.pad) == ((2,), (2,), 1)


def test_answers_encoded_apart_would_have_other_tokens_after_a_prompt() -> None:
    text = encoder("sentencepiece_like", "{prompt} {answer}")
    apart = text.tokenizer(" red", add_special_tokens=False).input_ids
    assert text.answer_ids(["red"]) != [[*apart, text.ends[0]]]


def test_a_border_that_the_tokenizer_would_join_is_counted_and_encoded_apart() -> None:
    text = encoder("byte_level", "the colo{answer}")
    joined = text.tokenizer("the color", add_special_tokens=False).input_ids
    apart = text.prompt_ids([""])[0] + text.answer_ids(["r"])[0]
    assert text.merged_borders([("", "r")]) == 1
    assert apart != [*text.begin, *joined, text.ends[0]]
    assert text.tokenizer.decode(apart, skip_special_tokens=True) == "the color"


@pytest.mark.parametrize("kind", PLAIN)
def test_prompts_of_generation_are_those_of_training_with_masked_padding(kind: str) -> None:
    text = encoder(kind, "{prompt} {answer}")
    ids, mask = text.collate_prompts(PROMPTS)
    assert ids.shape[1] == max(map(len, text.prompt_ids(PROMPTS)))
    for row, kept, prompt in zip(ids, mask.bool(), text.prompt_ids(PROMPTS), strict=True):
        assert row[kept].tolist() == prompt
        assert set(row[~kept].tolist()) <= {text.pad}


def test_a_text_of_an_end_token_inside_an_answer_is_removed() -> None:
    text = encoder("chat", "{prompt} {answer}", eos_token_id=[0, 4])
    plain = text.answer_ids(["red lamp"])
    assert text.answer_ids(["red<|end|> lamp<|endoftext|>"]) == plain


def test_generated_text_ends_at_any_end_token() -> None:
    text = encoder("chat", "{prompt} {answer}", eos_token_id=[0, 4])
    red, blue = (text.answer_ids([word])[0][:-1] for word in ("red", "blue"))
    assert text.decode(torch.tensor([[*red, 4, *blue], [*red, 0, *blue]])) == ["red", "red"]


def test_without_a_begin_token_an_empty_prompt_is_refused() -> None:
    text = encoder("byte_level", Template("{answer}", begin_token="none"))
    with pytest.raises(ModelError, match="no token for its answer to follow"):
        text.prompt_ids([""])
    asked = encoder("byte_level", Template("A photo of {answer}", begin_token="none"))
    plain = asked.tokenizer("A photo of", add_special_tokens=False).input_ids
    assert asked.prompt_ids([""]) == [plain]


def test_the_chat_template_surrounds_message_and_answer_with_a_fixed_date() -> None:
    text = encoder("chat", REQUEST)
    tokenizer = text.tokenizer
    whole = (
        "<|system|>Today is 26 Jul 2024.<|end|>\n<|user|>what color is the lamp?<|end|>\n"
        "<|assistant|>red<|end|>"
    )
    natural = tokenizer(whole, add_special_tokens=False).input_ids
    assert text.prompt_ids(PROMPTS[:1])[0] + text.answer_ids(["red"])[0] == natural
    assert text.ends == (tokenizer.convert_tokens_to_ids("<|end|>"), 0)


@pytest.mark.parametrize("start", ["\n\n", "  ", "  {% if true %}-{% endif %}"])
def test_the_fixed_date_leaves_the_beginning_of_the_template_as_it_is(start: str) -> None:
    tokenizer = TOKENIZERS["chat"]()
    tokenizer.chat_template = (
        start
        + "<|user|>{{ messages[0]['content'] }}<|end|>"
        + ("{% if messages[1] %}{{ messages[1]['content'] }}{% endif %}")
    )
    message = [{"role": "user", "content": "red"}]
    rendered = tokenizer.apply_chat_template(message, tokenize=False)
    assert chat_frame(tokenizer).before == rendered.partition("red")[0]


def test_a_named_begin_token_comes_before_the_chat() -> None:
    text = encoder("chat", Template("{prompt} {answer}", chat=True, begin_token="<|endoftext|>"))
    assert text.prompt_ids(["red"])[0] == [0, *encoder("chat", REQUEST).prompt_ids(["red"])[0]]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "has no chat template: leave out chat=true"),
        ("{{ raise_exception('system first') }}", "cannot be rendered .*system first"),
        ("{{ messages[0]['content'].__class__.__mro__ }}", "cannot be rendered"),
        ("{{ messages[0]['content'] * 2 }}", "does not contain a user's message .*exactly once"),
        ("fixed", "does not contain a user's message .*exactly once"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(template: str | None, message: str) -> None:
    tokenizer = TOKENIZERS["chat"]()
    tokenizer.chat_template = template
    with pytest.raises(ModelError, match=message):
        chat_frame(tokenizer)


def test_a_template_without_an_end_token_ends_answers_with_the_tokenizers() -> None:
    tokenizer = TOKENIZERS["chat"]()
    tokenizer.chat_template = CHAT_TEMPLATE.replace("<|end|>\n{% endfor", "{% endfor")
    assert chat_frame(tokenizer).end is None


def test_a_chat_needs_a_message() -> None:
    with pytest.raises(UsageError, match="Describe the image in one sentence"):
        Template("{answer}", chat=True)
