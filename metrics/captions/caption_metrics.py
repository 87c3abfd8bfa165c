"""Caption metrics of the COCO toolkit that need no further program: BLEU, ROUGE-L and CIDEr."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from epalm.errors import DataError, EpalmError, MissingToolError
from epalm.metrics.captions.java import find_java, run_java
from epalm.metrics.captions.treebank import plain_tokens
from epalm.metrics.metric_registry import Scores, texts_in_order
from epalm.tasks.types import Example, Prediction

Sentences = dict[int, list[str]]
"""Row of the example -> sentences, as the toolkit takes them."""

_ORDERS = 4

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 120.0, 0.01
"""For the tokenizer, and for each of its sentences on top; it does thousands a second."""

_OPTIONS = ("-preserveLines", "-lowerCase", "-encoding", "UTF-8")
"""Of the tokenizer; the toolkit's, and the encoding whatever the locale."""


def score_captions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "caption", as training validates with it.

    Values: BLEU-1 to BLEU-4 and ROUGE-L from 0 to 1, and CIDEr from 0 to 10, the headline. Per
    example: ROUGE-L and CIDEr; BLEU counts over the whole set at once. CIDEr weighs words by how
    few of the examples use them, so it depends on the whole set and is 0 for a single example.

    Raises:
        MissingToolError: there is no working Java, and a sentence is not plain.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    references, hypotheses = tokenised(predictions, examples)
    from pycocoevalcap.bleu.bleu import Bleu

    bleu, _ = Bleu(_ORDERS).compute_score(references, hypotheses, verbose=0)
    values = {f"BLEU-{order}": float(score) for order, score in enumerate(bleu, start=1)}
    others = rouge_and_cider(references, hypotheses)
    return Scores(values | others.values, others.per_example, headline=others.headline)


def rouge_and_cider(references: Sentences, hypotheses: Sentences) -> Scores:
    """ROUGE-L and CIDEr of tokenised captions, which are means over them."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    rouge, rouge_each = Rouge().compute_score(references, hypotheses)
    cider, cider_each = Cider().compute_score(references, hypotheses)
    return Scores(
        values={"ROUGE-L": float(rouge), "CIDEr": float(cider)},
        per_example={
            "ROUGE-L": np.asarray(rouge_each, dtype=np.float64),
            "CIDEr": np.asarray(cider_each, dtype=np.float64),
        },
        headline="CIDEr",
    )


def require_tools() -> None:
    """Check that Java runs: who trains cannot know that all captions will be plain.

    Raises:
        MissingToolError: says how to install it.
    """
    find_java()


def tokenised(
    predictions: Sequence[Prediction], examples: Sequence[Example]
) -> tuple[Sentences, Sentences]:
    """References and hypotheses by row, in the order of the examples.

    Raises:
        MissingToolError: there is no working Java, and a sentence is not plain.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    texts = texts_in_order(predictions, examples)
    flat = [*texts, *(sentence for one in examples for sentence in one.references)]
    tokens = iter(tokenise(flat))
    hypotheses = {row: [next(tokens)] for row in range(len(texts))}
    references = {
        row: [next(tokens) for _ in example.references] for row, example in enumerate(examples)
    }
    if not any(words for sentences in references.values() for words in sentences):
        raise DataError("no reference caption contains a word: check the split's file")
    return references, hypotheses


def tokenise(sentences: Sequence[str]) -> list[str]:
    """The sentences as the COCO toolkit compares them.

    Lower-case Penn Treebank tokens with one space between, without punctuation. The toolkit's
    tokenizer is a Java program; without Java, sentences that are plain enough get the same tokens
    from `epalm.metrics.captions.treebank`.

    Args:
        sentences: any text; line breaks count as spaces, empty ones stay empty.

    Raises:
        MissingToolError: there is no working Java, and a sentence is not plain; names it.
        EpalmError: the Java program failed.
    """
    lines = [" ".join(sentence.split()) for sentence in sentences]
    try:
        java = find_java()
    except MissingToolError as error:
        return [_plain(line, error) for line in lines]
    return _by_java(java, lines)


def _plain(line: str, reason: MissingToolError) -> str:
    tokens = plain_tokens(line)
    if tokens is None:
        raise MissingToolError(
            f"the sentence {line!r} can be tokenised by a Java program only, but {reason}"
        )
    return tokens


def _by_java(java: str, lines: Sequence[str]) -> list[str]:
    from pycocoevalcap.tokenizer import ptbtokenizer

    # PTBTokenizer.tokenize would write its input into the installed package's own folder, which
    # need not be writable, and would not notice a failing Java. Same program, same options.
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    written = run_java(
        [java, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *_OPTIONS],
        "".join(line + "\n" for line in lines).encode("utf-8", errors="replace"),
        what="the caption tokenizer",
        limit_seconds=_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * len(lines),
    )
    found = written.decode("utf-8", errors="replace").split("\n")[:-1]
    if len(found) != len(lines):
        raise EpalmError(
            f"the caption tokenizer returned {len(found)} of {len(lines)} sentences: try another "
            "version of Java"
        )
    dropped = frozenset(ptbtokenizer.PUNCTUATIONS)
    words = (line.rstrip().split(" ") for line in found)  # a token may hold a no-break space
    return [" ".join(word for word in several if word not in dropped) for several in words]
