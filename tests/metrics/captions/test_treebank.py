"""Tokens without Java, against the published ones and against the toolkit's own program."""

import random

import pytest

from epalm.metrics.captions.caption_metrics import tokenize
from epalm.metrics.captions.treebank import plain_tokens
from tests.metrics.toolkit import needs_check, needs_java, photos, raw_captions

WORDS = "a the dog dogs man's T-shirt twin-hulled 3rd 4-wheeler 12 1990 cannot gonna isn't they'll"
NAMES = "Mr. st. etc. U.S. p.m. 5:55 and/or \"Stop\" (red) boys' I'm you'd we've James's calif."
MARKS = ". , ; : ! ? - -- ... & = # ( ) ' \" 's n't"
ENDS = ("", "", "", ".", ",", "!", "?", '"', '."', ',"', ")", ".)", ";", ":", "!!", "...")


def drawn_sentences(count: int) -> list[str]:
    """Words, names and marks in any order, with any mark stuck to them."""
    draw = random.Random(3)
    chunks = [*WORDS.split(), *NAMES.split(), *WORDS.upper().split(), *WORDS.title().split()]
    alone = MARKS.split()

    def chunk() -> str:
        return (
            draw.choice(alone)
            if draw.random() < 0.15
            else draw.choice(chunks) + (draw.choice(ENDS) if draw.random() < 0.2 else "")
        )

    return [" ".join(chunk() for _ in range(draw.randint(1, 12))) for _ in range(count)]


@needs_check
def test_every_published_hypothesis_gets_its_published_tokens() -> None:
    raw = raw_captions()
    assert len(photos()) == 1000
    assert [plain_tokens(raw[photo["image_id"]]) for photo in photos()] == [
        photo["test"] for photo in photos()
    ]


@needs_check
def test_tokenized_references_are_unchanged() -> None:
    references = [reference for photo in photos() for reference in photo["refs"]]
    assert len(references) == 5005
    changed = [one for one in references if plain_tokens(one) != " ".join(one.split())]
    assert [one.split()[-1] for one in changed] == ["bat."]  # as published; it loses its period


@needs_java
def test_thousands_of_random_sentences_get_the_tokens_of_the_java_program() -> None:
    sentences = drawn_sentences(6_000)
    ours = [plain_tokens(sentence) for sentence in sentences]
    plain = [row for row, tokens in enumerate(ours) if tokens is not None]
    assert len(plain) > 3_000
    theirs = tokenize([sentences[row] for row in plain])
    assert [ours[row] for row in plain] == theirs


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("", ""),
        ("A man's dog isn't (very) big.", "a man 's dog is n't -lrb- very -rrb- big"),
        ('He said, "I cannot!"', "he said i can not"),
        ("Mr. Smith of the U.S. at 5:55", "mr. smith of the u.s. at 5:55"),
        ("the boys' T-shirts ...", "the boys t-shirts"),
    ],
)
def test_simple_sentences_are_split_at_endings_and_lose_their_punctuation(
    sentence: str, tokens: str
) -> None:
    assert plain_tokens(sentence) == tokens


@pytest.mark.parametrize(
    "sentence",
    [
        "a café",
        "room 100 2000",
        "bus no. 5",
        "Miami U. wins",
        "at&t",
        "see http://example.com",
        "wow!!",
        "a slip 'n' slide",
        "the sun., then",
        'the sun.," he said',
        "dogn't",
    ],
)
def test_ambiguous_sentences_are_rejected(sentence: str) -> None:
    assert plain_tokens(sentence) is None
