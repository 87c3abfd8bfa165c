"""Whether a model answers the same thing whatever it is shown."""

from collections import Counter
from collections.abc import Sequence

LEAST_EXAMPLES = 40
"""Of fewer, 5 % are a single answer or two, which chance alone may give."""

LEAST_DISTINCT = 0.05
"""Where fewer of the answers differ, a model may not use what it sees."""

OFTENER = 2.0
"""Answers to questions repeat by nature ("yes", "2"). As many times as in the references may the
most frequent one be given before it is remarkable."""

UNKNOWN_SHARE = 0.25
"""Share of the most frequent right answer where no references are published; "yes" has about as
much in VQA v2."""

_SHOWN_CHARACTERS = 40


def little_variety(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, questions: bool
) -> str:
    """A sentence where hardly any two of the answers differ; else "".

    Args:
        answers: N texts.
        references: the right answers to each, in the same order; those of one may be empty.
        questions: answers to questions, which may be as alike as the right ones are; not captions.
    """
    count, distinct = len(answers), Counter(answers)
    if count < LEAST_EXAMPLES or len(distinct) >= LEAST_DISTINCT * count:
        return ""
    ((top, times),) = distinct.most_common(1)
    if questions and len(distinct) > 1 and times <= OFTENER * count * _share(top, references):
        return ""
    noun = "answer" if questions else "caption"
    shown = top if len(top) <= _SHOWN_CHARACTERS else f"{top[:_SHOWN_CHARACTERS]} ..."
    return (
        f"only {len(distinct)} of {count:,} {noun}s differ, {100 * times / count:.0f} % are "
        f'"{shown}": the model may not use what it is shown'
    )


def _share(answer: str, references: Sequence[Sequence[str]]) -> float:
    """How often an answer is the most frequent reference."""
    firsts = [Counter(each).most_common(1)[0][0] for each in references if each]
    if not firsts:
        return UNKNOWN_SHARE
    return firsts.count(answer) / len(firsts)
