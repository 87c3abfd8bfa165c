"""Answer normalisation of the official VQA evaluation: marks, numbers, articles, contractions.

Each step keeps the oddities of that program (GT-Vision-Lab/VQA, vqaEval.py), because published
accuracies contain them. `tests/metrics/data` holds pairs scored by the original.
"""

import re
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
"""Marks that are removed or become a space. The apostrophe, the colon and the dollar stay."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")

_PERIOD = re.compile(r"\.(?!\d)")

_PERIODS_AT_MOST = 32
"""The original passes `re.UNICODE`, which is 32, where `re.sub` takes the number of removals."""

_REMEMBERED = 65_536
"""Answers repeat: VQA v2 validation has 2.1 million, most of them among a few thousand."""

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
""".split()  # noqa: SIM905 - a list of hundred quoted words cannot be read


def _misspellings() -> dict[str, str]:
    """Each contraction with any one of its apostrophes left out -> the contraction."""
    table = {"somebody'd": "somebodyd"}  # the wrong way round in the original
    for word in _CONTRACTIONS:
        for place, letter in enumerate(word):
            if letter == "'":
                table[word[:place] + word[place + 1 :]] = word
    return table


_CONTRACTED = _misspellings()


def strip_answer(text: str) -> str:
    """The text with line breaks and tabs as spaces, without outer white space."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=_REMEMBERED)
def remove_punctuation(text: str) -> str:
    """The text without punctuation and without periods that no digit follows.

    A mark becomes a space where it joins two words ("ping-pong"). It is removed outright where it
    stands beside a space somewhere in the text, and always if the text has a comma between digits.
    """
    number_with_comma = _COMMA_IN_NUMBER.search(text) is not None
    plain = text
    for mark in _PUNCTUATION:
        loose = number_with_comma or f"{mark} " in text or f" {mark}" in text
        plain = plain.replace(mark, "" if loose else " ")
    return _PERIOD.sub("", plain, count=_PERIODS_AT_MOST)


@lru_cache(maxsize=_REMEMBERED)
def normalise_answer(text: str) -> str:
    """The text as the official VQA evaluation compares it.

    Lower case, no punctuation, number words up to ten as digits, no articles, apostrophes put back
    into contractions, single spaces.
    """
    words = remove_punctuation(strip_answer(text)).lower().split()
    digits = (_DIGITS.get(word, word) for word in words)
    return " ".join(_CONTRACTED.get(word, word) for word in digits if word not in _ARTICLES)
