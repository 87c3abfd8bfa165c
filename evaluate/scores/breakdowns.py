"""How questions are sorted into groups, and the headline's mean over each."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from epalm.metrics.intervals import GroupMean, group_means
from epalm.metrics.metric_registry import Scores
from epalm.tasks.types import Example

FIRST_WORDS = 2
"""That stand for the type of a question where the data tell none, as in "how many"."""

RARE_SHARE, RARER = 0.01, "rarer words"
"""Beginnings of fewer questions stand together, under this name."""


def breakdowns(scores: Scores, examples: Sequence[Example]) -> dict[str, tuple[GroupMean, ...]]:
    """The headline's mean by kind of answer and of question; see `question_types`.

    Captions are grouped where the data tell groups, as nocaps does.
    """
    column = scores.per_example.get(scores.headline)
    if column is None:
        return {}
    tables = [("group", [one.question_type for one in examples])]
    if any(one.prompt for one in examples):
        tables = [answer_types(examples), question_types(examples)]
    found = {name: tuple(group_means(column, groups)) for name, groups in tables}
    return {name: groups for name, groups in found.items() if groups}


def question_types(examples: Sequence[Example]) -> tuple[str, list[str]]:
    """What the groups are, and the group of each question: its type, or else its first words."""
    types = [one.question_type for one in examples]
    if any(types):
        return "question type", types
    words = _each(first_words, examples)
    counts = Counter(words)
    return "first words", [it if counts[it] >= RARE_SHARE * len(words) else RARER for it in words]


def answer_types(examples: Sequence[Example]) -> tuple[str, list[str]]:
    """Likewise the type of each answer, or else its form."""
    types = [one.answer_type for one in examples]
    return ("answer type", types) if any(types) else ("form of answer", _each(form, examples))


def first_words(example: Example) -> str:
    """How a question begins, in lower case."""
    return " ".join(example.prompt.lower().split()[:FIRST_WORDS]).rstrip("?")


def form(example: Example) -> str:
    """Of the most frequent reference: "yes/no", "number" or "other", the types of VQA v2.

    Empty where none is published.
    """
    if not example.references:
        return ""
    answer = Counter(example.references).most_common(1)[0][0].strip().lower()
    if answer in {"yes", "no"}:
        return "yes/no"
    return "number" if re.fullmatch(r"[\d.,]*\d", answer) else "other"


def _each(sort: Callable[[Example], str], examples: Sequence[Example]) -> list[str]:
    return [sort(example) for example in examples]
