"""Caption metrics against the published scores of the COCO toolkit."""

import os
import subprocess
from pathlib import Path

import pytest

from epalm.errors import DataError, MissingToolError
from epalm.metrics.captions.caption_metrics import require_tools, score_captions, tokenize
from epalm.metrics.metric_registry import load_metric
from tests.metrics.toolkit import (
    captioned,
    needs_check,
    needs_java,
    photos,
    predicted,
    published_scores,
    published_task,
    raw_captions,
)

DIGITS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr")


@needs_java
@needs_check
def test_the_published_scores_of_a_thousand_captions_are_reproduced() -> None:
    predictions, examples = published_task()
    scores = score_captions(predictions, examples)
    assert len(examples) == 1000
    assert {name: round(value, 3) for name, value in scores.values.items()} == {
        name: published_scores()[name] for name in DIGITS
    }
    assert scores.per_example["CIDEr"].mean() == pytest.approx(scores.values["CIDEr"])


@pytest.mark.slow
@needs_check
def test_without_java_the_published_scores_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    scores = score_captions(*published_task())
    assert {name: round(value, 3) for name, value in scores.values.items()} == {
        name: published_scores()[name] for name in DIGITS
    }


@needs_java
@needs_check
def test_raw_hypotheses_are_tokenized_as_published() -> None:
    raw = raw_captions()
    ours = tokenize([raw[photo["image_id"]] for photo in photos()])
    assert ours == [photo["test"] for photo in photos()]


@needs_java
def test_tokens_equal_those_of_the_toolkit(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    sentences = ["A man's dog, isn't it?", "Two (red) cups - one café", "cannot", "x"]
    sentences += ["room 100 2000", "a bus no. 5 ..."]
    official = PTBTokenizer().tokenize({0: [{"caption": text} for text in sentences]})
    capfd.readouterr()
    assert tokenize(sentences) == official[0]
    assert capfd.readouterr() == ("", "")


@needs_java
def test_every_sentence_keeps_its_position_whatever_it_contains() -> None:
    sentences = ["", "two\nlines\r\nand\u2028more", "...", "🐶", "a dog", "\ud800", ""]
    assert tokenize(sentences) == ["", "two lines and more", "", "", "a dog", "", ""]


@needs_java
def test_empty_predictions_single_references_and_duplicates_are_scored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    examples = [
        captioned("0", "a dog runs on the green grass"),
        captioned("1", "a man rides a red bike", "a man rides a red bike"),
        captioned("2", "two birds sit on a wire"),
    ]
    scores = score_captions(
        predicted("", "a man rides a red bike", "two birds sit on a wire"), examples
    )
    # an identical caption has CIDEr 10 and ROUGE-L 1, an empty one 0
    assert scores.per_example["CIDEr"] == pytest.approx([0, 10, 10])
    assert scores.per_example["ROUGE-L"] == pytest.approx([0, 1, 1])
    # all 12 predicted words are right; 19 words were wanted: brevity penalty exp(1 - 19 / 12)
    assert scores.values["BLEU-1"] == pytest.approx(0.55803515, abs=1e-6)
    assert capfd.readouterr() == ("", "")


@needs_java
def test_all_predictions_empty_score_zero() -> None:
    scores = score_captions(predicted("", ""), [captioned("0", "a dog"), captioned("1", "a cat")])
    assert all(value == pytest.approx(0, abs=1e-9) for value in scores.values.values())


@needs_java
def test_references_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="no reference caption contains a word"):
        score_captions(predicted("a dog"), [captioned("0", "...")])


def test_without_java_the_error_quotes_the_sentence_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    examples = [captioned("0", "a dog"), captioned("1", "a cat on U. street")]
    with pytest.raises(
        MissingToolError, match=r"'a cat on U. street'.*apt-get install default-jre"
    ):
        score_captions(predicted("a dog", "a cat"), examples)


def test_training_on_captions_checks_for_java_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match="apt-get install default-jre-headless"):
        load_metric("caption")


def test_a_java_that_does_not_run_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'no runtime present' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/bin")
    assert subprocess.run(["java"], capture_output=True, check=False).returncode == 1
    with pytest.raises(MissingToolError, match="does not run"):
        require_tools()
    assert tokenize(["A dog."]) == ["a dog"]
