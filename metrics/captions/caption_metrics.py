"""Caption metrics of the COCO toolkit that need no Java program: BLEU, ROUGE-L and CIDEr."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from epalm.errors import DataError, EpalmError, MissingToolError
from epalm.metrics.captions.java import find_java, run_java
from epalm.metrics.captions.treebank import plain_tokens
from epalm.metrics.metric_registry import Scores, texts_in_order
from epalm.tasks.types import Example, Prediction

Sentences = dict[int, list[str]]
"""Index of the example -> sentences, in the toolkit's format."""

_ORDERS = 4

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 120.0, 0.01
"""Time limit of the tokenizer, plus so much per sentence; it processes thousands per second."""

_OPTIONS = ("-preserveLines", "-lowerCase", "-encoding", "UTF-8")
"""Options of the tokenizer: the toolkit's, and an encoding that does not depend on the locale."""


def score_captions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """Metric "caption" for the validation during training.

    Values: BLEU-1 to BLEU-4 and ROUGE-L from 0 to 1, and CIDEr from 0 to 10, the headline. Only
    ROUGE-L and CIDEr have scores per example; BLEU is a corpus score. CIDEr weights words by their
    rarity among the examples, so it depends on the whole set and is 0 for a single example.

    Raises:
        MissingToolError: Java does not work, and a sentence cannot be tokenized without it.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    references, hypotheses = tokenized(predictions, examples)
    from pycocoevalcap.bleu.bleu import Bleu

    bleu, _ = Bleu(_ORDERS).compute_score(references, hypotheses, verbose=0)
    values = {f"BLEU-{order}": float(score) for order, score in enumerate(bleu, start=1)}
    others = rouge_and_cider(references, hypotheses)
    return Scores(values | others.values, others.per_example, headline=others.headline)


def rouge_and_cider(references: Sentences, hypotheses: Sentences) -> Scores:
    """ROUGE-L and CIDEr of tokenized captions; both are means over the examples."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    rouge, rouge_per_example = Rouge().compute_score(references, hypotheses)
    cider, cider_per_example = Cider().compute_score(references, hypotheses)
    return Scores(
        values={"ROUGE-L": float(rouge), "CIDEr": float(cider)},
        per_example={
            "ROUGE-L": np.asarray(rouge_per_example, dtype=np.float64),
            "CIDEr": np.asarray(cider_per_example, dtype=np.float64),
        },
        headline="CIDEr",
    )


def require_tools() -> None:
    """Check that Java runs, since generated captions may not be tokenizable without it.

    Raises:
        MissingToolError: Java does not run; the message says how to install it.
    """
    find_java()


def tokenized(
    predictions: Sequence[Prediction], examples: Sequence[Example]
) -> tuple[Sentences, Sentences]:
    """Tokenized references and hypotheses by index of the example.

    Raises:
        MissingToolError: Java does not work, and a sentence cannot be tokenized without it.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    texts = texts_in_order(predictions, examples)
    flat = [*texts, *(sentence for example in examples for sentence in example.references)]
    tokens = iter(tokenize(flat))
    hypotheses = {row: [next(tokens)] for row in range(len(texts))}
    references = {
        row: [next(tokens) for _ in example.references] for row, example in enumerate(examples)
    }
    if not any(words for sentences in references.values() for words in sentences):
        raise DataError("no reference caption contains a word: check the split's file")
    return references, hypotheses


def tokenize(sentences: Sequence[str]) -> list[str]:
    """Tokenize sentences as the COCO toolkit does.

    The result has lower-case Penn Treebank tokens separated by single spaces, without punctuation.
    The toolkit's tokenizer is a Java program. Without Java, `epalm.metrics.captions.treebank` gives
    the same tokens for simple sentences.

    Args:
        sentences: any text; line breaks count as spaces, and empty sentences stay empty.

    Raises:
        MissingToolError: Java does not work, and a sentence, which the message quotes, is not
            simple enough.
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
            f"the sentence {line!r} can only be tokenized by a Java program, but {reason}"
        )
    return tokens


def _by_java(java: str, lines: Sequence[str]) -> list[str]:
    from pycocoevalcap.tokenizer import ptbtokenizer

    # PTBTokenizer.tokenize writes its input into the folder of the installed package, which may not
    # be writable, and does not notice if Java fails. This runs the same program and options.
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    output = run_java(
        [java, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *_OPTIONS],
        "".join(line + "\n" for line in lines).encode("utf-8", errors="replace"),
        program="the caption tokenizer",
        limit_seconds=_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * len(lines),
    )
    tokenized_lines = output.decode("utf-8", errors="replace").split("\n")[:-1]
    if len(tokenized_lines) != len(lines):
        raise EpalmError(
            f"the caption tokenizer returned {len(tokenized_lines)} of {len(lines)} sentences: "
            "try another version of Java"
        )
    punctuation = frozenset(ptbtokenizer.PUNCTUATIONS)
    # Split at spaces only: a token may contain a no-break space.
    tokens = (line.rstrip().split(" ") for line in tokenized_lines)
    return [" ".join(token for token in each if token not in punctuation) for each in tokens]
