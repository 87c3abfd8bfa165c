"""Breakdowns: the mean headline score by type of answer and of question."""

import re
from collections import Counter
from collections.abc import Sequence

from epalm.metrics.intervals import GroupMean, group_means
from epalm.metrics.metric_registry import Scores
from epalm.tasks.types import Example

PREFIX_WORDS = 2
"""Number of first words that group questions without a type, as in "how many"."""

RARE_FRACTION, RARE = 0.01, "rarer words"
"""Prefixes of a smaller fraction of the questions are one group, with this name."""


def breakdowns(scores: Scores, examples: Sequence[Example]) -> dict[str, tuple[GroupMean, ...]]:
    """The mean headline score by type of answer and of question; see `question_types`.

    Captions are grouped if the data have groups, as nocaps does.
    """
    column = scores.per_example.get(scores.headline)
    if column is None:
        return {}
    tables = [("group", [example.question_type for example in examples])]
    if any(example.prompt for example in examples):
        tables = [answer_types(examples), question_types(examples)]
    means = {name: tuple(group_means(column, groups)) for name, groups in tables}
    return {name: groups for name, groups in means.items() if groups}


def question_types(examples: Sequence[Example]) -> tuple[str, list[str]]:
    """Name of the grouping, and the group of each question: its type, or else its first words."""
    types = [example.question_type for example in examples]
    if any(types):
        return "question type", types
    prefixes = [question_prefix(example) for example in examples]
    counts, frequent = Counter(prefixes), RARE_FRACTION * len(prefixes)
    groups = [prefix if counts[prefix] >= frequent else RARE for prefix in prefixes]
    return "first words", groups  # a key of scores.json; reports have "question prefix"


def answer_types(examples: Sequence[Example]) -> tuple[str, list[str]]:
    """Name of the grouping, and the type of each answer, from the data or else from its text."""
    types = [example.answer_type for example in examples]
    if any(types):
        return "answer type", types
    return "form of answer", [answer_type(example) for example in examples]  # a key of scores.json


def question_prefix(example: Example) -> str:
    """The first words of a question, in lower case."""
    return " ".join(example.prompt.lower().split()[:PREFIX_WORDS]).rstrip("?")


def answer_type(example: Example) -> str:
    """The type of the most frequent reference, as in VQA v2: "yes/no", "number" or "other".

    Empty for an example without references.
    """
    if not example.references:
        return ""
    answer = Counter(example.references).most_common(1)[0][0].strip().lower()
    if answer in {"yes", "no"}:
        return "yes/no"
    return "number" if re.fullmatch(r"[\d.,]*\d", answer) else "other"
