"""Check that texts fit the language model's position table, before anything is computed."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from epalm.console import counted
from epalm.errors import ModelError

EXCERPT_LENGTH = 40
"""Maximum number of an answer's characters in a message."""


@dataclass(frozen=True)
class AnswerLimit:
    """The maximum that an answer strategy adds to a prompt.

    Attributes:
        tokens: maximum number of tokens.
        label: source of this maximum, for messages.
        remedy: how to lower it, for messages.
    """

    tokens: int
    label: str
    remedy: str


def check_lengths(
    prompt_lengths: Sequence[int],
    answer_lengths: Sequence[int],
    ids: Sequence[str],
    *,
    positions: int,
    answer_label: Callable[[int], str],
    source: str = "",
    remedy: str = "",
) -> None:
    """Reject texts of more tokens than positions; only text tokens take positions.

    Args:
        prompt_lengths: tokens of each example's prompt, begin token included.
        answer_lengths: tokens of each example's longest answer.
        ids: id of each example.
        positions: number of positions of the language model.
        answer_label: function from the index of an example to a description of its longest answer.
        source: origin of the examples, the beginning of the message.
        remedy: further remedy, the end of the message.

    Raises:
        ModelError: names the first example that is too long, and how many are.
    """
    lengths = enumerate(zip(prompt_lengths, answer_lengths, strict=True))
    too_long = [index for index, (prompt, answer) in lengths if prompt + answer > positions]
    if not too_long:
        return
    first = too_long[0]
    raise ModelError(
        f"{source}example {ids[first]!r} has {counted(prompt_lengths[first], 'token')} of prompt "
        f"and {answer_lengths[first]} of answer ({answer_label(first)}), the language model has "
        f"{positions} positions (too long: {len(too_long)} of {counted(len(ids), 'example')}): "
        f"shorten such examples or leave them out{remedy}"
    )


def check_prompt_lengths(
    prompt_lengths: Sequence[int],
    ids: Sequence[str],
    limit: AnswerLimit,
    *,
    positions: int,
    source: str = "",
) -> None:
    """Reject prompts that leave too few positions for an answer; see `check_lengths`."""
    check_lengths(
        prompt_lengths,
        [limit.tokens] * len(prompt_lengths),
        ids,
        positions=positions,
        answer_label=lambda _: limit.label,
        source=source,
        remedy=f", or {limit.remedy}" if max(prompt_lengths, default=0) < positions else "",
    )


def excerpt(answer: str) -> str:
    """The beginning of an answer, in quotation marks."""
    return repr(textwrap.shorten(answer, EXCERPT_LENGTH, placeholder=" ..."))
