"""Caption metrics of the COCO toolkit: BLEU, ROUGE-L and CIDEr."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from epalm.errors import DataError, EpalmError, MissingToolError
from epalm.metrics.registry import Scores, texts_in_order
from epalm.tasks.records import Example, Prediction

Sentences = dict[int, list[str]]
"""Row of the example -> sentences, as the toolkit takes them."""

_ORDERS = 4


def score_captions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Scores:
    """The metric "caption".

    Values: BLEU-1 to BLEU-4 and ROUGE-L from 0 to 1, and CIDEr from 0 to 10, the headline. Per
    example: ROUGE-L and CIDEr; BLEU counts over the whole set at once. CIDEr weighs words by how
    few of the examples use them, so it depends on the whole set and is 0 for a single example.

    Raises:
        MissingToolError: there is no working Java.
        DataError: predictions and examples do not match, or no reference contains a word.
    """
    require_tools()
    texts = texts_in_order(predictions, examples)
    references, hypotheses = _tokenised(texts, [example.references for example in examples])
    if not any(words for sentences in references.values() for words in sentences):
        raise DataError("no reference caption contains a word: check the split's file")
    return _toolkit_scores(references, hypotheses)


def require_tools() -> None:
    """Check that Java runs; the toolkit's tokenizer is a Java program.

    Raises:
        MissingToolError: says how to install it.
    """
    java = shutil.which("java")
    if java is not None:
        trial = subprocess.run([java, "-version"], capture_output=True, check=False)
        if trial.returncode == 0:
            return
    found = "there is no `java` on the PATH" if java is None else f"{java} does not run"
    raise MissingToolError(
        f"caption metrics tokenise with a Java program, but {found}: install Java with "
        "`apt-get install default-jre-headless`, `brew install openjdk` or "
        "`conda install -c conda-forge openjdk`"
    )


def tokenise(sentences: Sequence[str]) -> list[str]:
    """The sentences as the COCO toolkit compares them.

    Lower-case Penn Treebank tokens with one space between, without punctuation.

    Args:
        sentences: any text; line breaks count as spaces, empty ones stay empty.

    Raises:
        EpalmError: the Java program failed.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    # PTBTokenizer.tokenize would write its input into the installed package's own folder, which
    # need not be writable, and would not notice a failing Java. Same program, same options.
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    lines = "".join(" ".join(sentence.split()) + "\n" for sentence in sentences)
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"],
        input=lines.encode("utf-8", errors="replace"),
        capture_output=True,
        check=False,
    )
    tokenised = done.stdout.decode("utf-8", errors="replace").split("\n")[:-1]
    if done.returncode != 0 or len(tokenised) != len(sentences):
        raise EpalmError(
            f"the caption tokenizer returned {len(tokenised)} of {len(sentences)} sentences "
            f"(exit code {done.returncode}): {done.stderr.decode(errors='replace')[-500:]}"
        )
    dropped = frozenset(ptbtokenizer.PUNCTUATIONS)
    return [" ".join(word for word in line.split() if word not in dropped) for line in tokenised]


def _tokenised(
    texts: Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[Sentences, Sentences]:
    """References and hypotheses by row, all tokenised by one run of the Java program."""
    flat = [*texts, *(sentence for several in references for sentence in several)]
    tokens = iter(tokenise(flat))
    hypotheses = {row: [next(tokens)] for row in range(len(texts))}
    return {
        row: [next(tokens) for _ in several] for row, several in enumerate(references)
    }, hypotheses


def _toolkit_scores(references: Sentences, hypotheses: Sentences) -> Scores:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, _ = Bleu(_ORDERS).compute_score(references, hypotheses, verbose=0)
    rouge, rouge_each = Rouge().compute_score(references, hypotheses)
    cider, cider_each = Cider().compute_score(references, hypotheses)
    values = {f"BLEU-{order}": float(score) for order, score in enumerate(bleu, start=1)}
    per_example = {
        "ROUGE-L": np.asarray(rouge_each, dtype=np.float64),
        "CIDEr": np.asarray(cider_each, dtype=np.float64),
    }
    return Scores(
        values=values | {"ROUGE-L": float(rouge), "CIDEr": float(cider)},
        per_example=per_example,
        headline="CIDEr",
    )
