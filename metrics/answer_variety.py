"""Detection of models that give the same few answers to everything."""

from collections import Counter
from collections.abc import Sequence
from statistics import mode

MIN_EXAMPLES = 40
"""Smallest number of answers that is judged; 5 % of fewer are one or two answers, by chance."""

MIN_DISTINCT_FRACTION = 0.05
"""A smaller fraction of distinct answers is suspicious."""

MAX_FREQUENCY_RATIO = 2.0
"""Answers to questions repeat naturally ("yes", "2"). The most frequent one is suspicious if it is
this many times as frequent as among the references."""

DEFAULT_FREQUENCY = 0.25
"""Assumed frequency of an answer among the references if none are published; in VQA v2, "yes" has
about this frequency."""

_MAX_ANSWER_LENGTH = 40


def low_variety_warning(
    answers: Sequence[str], references: Sequence[Sequence[str]], *, questions: bool
) -> str:
    """A warning if only a few of the answers are distinct; else the empty string.

    Args:
        answers: N predicted texts.
        references: reference answers of each, in the same order; an entry may be empty.
        questions: True for answers to questions, which may repeat as often as the references do;
            False for captions.
    """
    count, distinct = len(answers), Counter(answers)
    if count < MIN_EXAMPLES or len(distinct) >= MIN_DISTINCT_FRACTION * count:
        return ""
    ((top, times),) = distinct.most_common(1)
    usual = count * _reference_frequency(top, references)
    if questions and len(distinct) > 1 and times <= MAX_FREQUENCY_RATIO * usual:
        return ""
    noun = "answer" if questions else "caption"
    quoted = top if len(top) <= _MAX_ANSWER_LENGTH else f"{top[:_MAX_ANSWER_LENGTH]} ..."
    return (
        f"only {len(distinct)} of {count:,} {noun}s are distinct, and {100 * times / count:.0f} % "
        f'are "{quoted}": the model may ignore its input'
    )


def _reference_frequency(answer: str, references: Sequence[Sequence[str]]) -> float:
    """Fraction of the examples whose most frequent reference is `answer`."""
    modes = [mode(each) for each in references if each]
    if not modes:
        return DEFAULT_FREQUENCY
    return modes.count(answer) / len(modes)
