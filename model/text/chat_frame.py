"""What the tokenizer's chat template puts before and after a user's message and its answer."""

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from epalm.errors import ModelError
from epalm.untrusted.hub_config import loading

REQUEST, REPLY = "epalmrequest", "epalmreply"
"""Texts of the messages that the template is rendered with once, to find what is around them."""

FIXED_DATE = "26 Jul 2024"
"""The date in templates that state today's: training and evaluation on other days see one text. It
is the one that Llama 3's template has where it cannot know the date."""

FIXED_CLOCK = "{%- macro strftime_now(format) -%}" + FIXED_DATE + "{%- endmacro %}\n"
"""Beginning of the template that replaces transformers' clock. Its line break is not rendered, so
that the template begins at the beginning of a line, as without it."""


@dataclass(frozen=True)
class ChatFrame:
    """The fixed text of a conversation with one message and one answer.

    Attributes:
        before: text before the message, begin-of-text token and system message included.
        between: text between message and answer.
        end: id of the token that ends the answer; None if the template adds no such token.
    """

    before: str
    between: str
    end: int | None


def chat_frame(tokenizer: PreTrainedTokenizerBase) -> ChatFrame:
    """Render the chat template once, in transformers' sandbox.

    Raises:
        ModelError: the tokenizer has no chat template, or it cannot render a conversation of one
            message and its answer.
    """
    name = tokenizer.name_or_path
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of {name} has no chat template: leave out chat=true, or use the "
            "instruction-tuned version of the language model"
        )
    asked = {"role": "user", "content": REQUEST}
    prompt = _render(tokenizer, [asked], add_generation_prompt=True)
    answered = _render(tokenizer, [asked, {"role": "assistant", "content": REPLY}])
    before, found, between = prompt.partition(REQUEST)
    if not found or REQUEST in between or answered.count(REPLY) != 1:
        raise ModelError(
            f"the chat template of {name} does not contain a user's message and its answer exactly "
            "once: leave out chat=true and give a text with --set qa_template=TEXT"
        )
    return ChatFrame(before, between, _first_special(tokenizer, answered.partition(REPLY)[2]))


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[dict[str, str]],
    *,
    add_generation_prompt: bool = False,
) -> str:
    def describe(error: Exception) -> str:
        return (
            f"the chat template of {tokenizer.name_or_path} cannot be rendered ({error}): leave "
            "out chat=true and give a text with --set qa_template=TEXT"
        )

    with loading(describe):
        rendered = tokenizer.apply_chat_template(
            messages,
            chat_template=FIXED_CLOCK + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            enable_thinking=False,  # a variable of some templates
        )
    return str(rendered)


def _first_special(tokenizer: PreTrainedTokenizerBase, text: str) -> int | None:
    """Id of the text's first token if that is an added token such as <|im_end|>."""
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids[0] if ids and ids[0] in tokenizer.added_tokens_decoder else None
