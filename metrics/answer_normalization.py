"""Answer normalization of the official VQA evaluation.

It handles punctuation, number words, articles and contractions. Every step reproduces the quirks of
the original program (GT-Vision-Lab/VQA, vqaEval.py), since published accuracies depend on them.
`tests/metrics/data` has pairs that the original program scored.
"""

import re
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Characters that are removed or replaced by a space; apostrophe, colon and dollar are kept."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")

_PERIOD = re.compile(r"\.(?!\d)")

_MAX_PERIODS = 32
"""Largest number of periods removed. The original passes `re.UNICODE`, which is 32, in the place of
`re.sub`'s argument `count`."""

_CACHE_SIZE = 65_536
"""Answers repeat: the 2.1 million of VQA v2 validation are mostly among a few thousand."""

_ARTICLES = frozenset(("a", "an", "the"))

_DIGITS = {"none": "0"} | {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}

_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't
    mightn't've must've mustn't needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're
    you've
""".split()  # noqa: SIM905 - a list of a hundred quoted words is unreadable


def _misspellings() -> dict[str, str]:
    """Contraction with one apostrophe missing -> correct contraction."""
    table = {"somebody'd": "somebodyd"}  # key and value are swapped in the original
    for word in _CONTRACTIONS:
        for index, letter in enumerate(word):
            if letter == "'":
                table[word[:index] + word[index + 1 :]] = word
    return table


_CONTRACTED = _misspellings()


def strip_answer(text: str) -> str:
    """The text with line breaks and tabs replaced by spaces, stripped."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=_CACHE_SIZE)
def remove_punctuation(text: str) -> str:
    """The text without punctuation and without periods that are not followed by a digit.

    A character of `_PUNCTUATION` is replaced by a space if it only occurs inside words
    ("ping-pong"). It is removed if it is next to a space anywhere in the text, and always if the
    text has a comma between digits.
    """
    number_with_comma = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for character in _PUNCTUATION:
        removed = number_with_comma or f"{character} " in text or f" {character}" in text
        cleaned = cleaned.replace(character, "" if removed else " ")
    return _PERIOD.sub("", cleaned, count=_MAX_PERIODS)


@lru_cache(maxsize=_CACHE_SIZE)
def normalize_answer(text: str) -> str:
    """The text in the form that the official VQA evaluation compares.

    Lower case, without punctuation and articles, number words up to ten as digits, missing
    apostrophes of contractions restored, single spaces.
    """
    words = remove_punctuation(strip_answer(text)).lower().split()
    digits = (_DIGITS.get(word, word) for word in words)
    return " ".join(_CONTRACTED.get(word, word) for word in digits if word not in _ARTICLES)
