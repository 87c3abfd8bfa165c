"""Whether texts fit the language model's table of positions, asked before anything is computed."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from epalm.console import counted
from epalm.errors import ModelError

SHOWN = 40
"""Characters of an answer that a message shows."""


@dataclass(frozen=True)
class AnswerLimit:
    """What a way to answer adds to a prompt at most.

    Attributes:
        tokens: how many tokens.
        words: what they are, for people.
        mend: what to do for fewer.
    """

    tokens: int
    words: str
    mend: str


def check_texts(
    prompts: Sequence[int],
    answers: Sequence[int],
    ids: Sequence[str],
    *,
    positions: int,
    words: Callable[[int], str],
    where: str = "",
    mend: str = "",
) -> None:
    """Refuse texts of more tokens than there are positions; only words take positions.

    Args:
        prompts: tokens of each example's prompt, begin token included.
        answers: tokens of its longest answer, as many.
        ids: of the examples.
        positions: of the language model.
        words: place of an example -> what its longest answer is, for people.
        where: what the examples are of, for people.
        mend: what else would help.

    Raises:
        ModelError: names the first example that is too long, and says how many are.
    """
    pairs = zip(prompts, answers, strict=True)
    over = [place for place, (prompt, answer) in enumerate(pairs) if prompt + answer > positions]
    if not over:
        return
    first = over[0]
    raise ModelError(
        f"{where}example {ids[first]!r} has {counted(prompts[first], 'token')} of prompt and "
        f"{answers[first]} of answer ({words(first)}), the language model has {positions} "
        f"positions (too long: {len(over)} of {counted(len(ids), 'example')}): shorten such "
        f"examples or leave them out{mend}"
    )


def check_prompts(
    prompts: Sequence[int],
    ids: Sequence[str],
    longest: AnswerLimit,
    *,
    positions: int,
    where: str = "",
) -> None:
    """Refuse prompts behind which an answer has no room; see `check_texts`."""
    check_texts(
        prompts,
        [longest.tokens] * len(prompts),
        ids,
        positions=positions,
        words=lambda _: longest.words,
        where=where,
        mend=f", or {longest.mend}" if max(prompts, default=0) < positions else "",
    )


def excerpt(answer: str) -> str:
    """The beginning of an answer, in quotation marks."""
    return repr(textwrap.shorten(answer, SHOWN, placeholder=" ..."))
