"""Caption metrics against the published scores of the COCO toolkit."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from epalm.errors import DataError, MissingToolError
from epalm.metrics import captioning
from epalm.metrics.captioning import require_tools, score_captions, tokenise
from epalm.tasks.records import Example, Prediction

CHECK = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "coco_caption_check"

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
needs_check = pytest.mark.skipif(
    not CHECK.is_dir(), reason="the published COCO hypotheses are not beside this repository"
)


def photos() -> list[dict[str, Any]]:
    """Every hypothesis and its references, tokenised, by the id of the photo."""
    found: list[dict[str, Any]] = json.loads(
        (CHECK / "tokenised_hypotheses_and_references.json").read_text()
    )
    return found


def raw_captions() -> dict[int, str]:
    raw = json.loads((CHECK / "raw_hypotheses.json").read_text(encoding="utf-8"))
    return {photo["image_id"]: photo["caption"] for photo in raw}


def captioned(question_id: str, *references: str) -> Example:
    return Example(question_id, question_id, "", references, references)


def said(*texts: str) -> list[Prediction]:
    return [Prediction(str(row), str(row), text) for row, text in enumerate(texts)]


@needs_java
@needs_check
def test_the_published_scores_of_a_thousand_captions_are_reproduced() -> None:
    published = json.loads((CHECK / "official_scores.json").read_text())
    raw = raw_captions()
    examples = [captioned(str(photo["image_id"]), *photo["refs"]) for photo in photos()]
    predictions = [
        Prediction(example.question_id, example.key, raw[int(example.key)]) for example in examples
    ]
    scores = score_captions(predictions, examples)
    assert len(examples) == 1000
    assert {name: round(value, 3) for name, value in scores.values.items()} == {
        "BLEU-1": published["Bleu_1"],
        "BLEU-2": published["Bleu_2"],
        "BLEU-3": published["Bleu_3"],
        "BLEU-4": published["Bleu_4"],
        "ROUGE-L": published["ROUGE_L"],
        "CIDEr": published["CIDEr"],
    }
    assert scores.per_example["CIDEr"].mean() == pytest.approx(scores.values["CIDEr"])


@needs_java
@needs_check
def test_raw_hypotheses_become_the_published_tokens() -> None:
    raw = raw_captions()
    ours = tokenise([raw[photo["image_id"]] for photo in photos()])
    assert ours == [photo["test"] for photo in photos()]


@needs_java
def test_our_call_of_the_tokenizer_returns_what_the_toolkits_own_does(
    capfd: pytest.CaptureFixture[str],
) -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    sentences = ["A man's dog, isn't it?", "Two (red) cups - one café", "cannot", "x"]
    official = PTBTokenizer().tokenize({0: [{"caption": text} for text in sentences]})
    capfd.readouterr()
    assert tokenise(sentences) == official[0]
    assert capfd.readouterr() == ("", "")


@needs_java
def test_sentences_stay_in_place_whatever_they_contain() -> None:
    sentences = ["", "two\nlines\r\nand\u2028more", "...", "🐶", "a dog", "\ud800", ""]
    assert tokenise(sentences) == ["", "two lines and more", "", "", "a dog", "", ""]


@needs_java
def test_empty_predictions_single_references_and_duplicates_are_scored(
    capfd: pytest.CaptureFixture[str],
) -> None:
    examples = [
        captioned("0", "a dog runs on the green grass"),
        captioned("1", "a man rides a red bike", "a man rides a red bike"),
        captioned("2", "two birds sit on a wire"),
    ]
    scores = score_captions(said("", "a man rides a red bike", "two birds sit on a wire"), examples)
    # an identical caption has CIDEr 10 and ROUGE-L 1, an empty one 0
    assert scores.per_example["CIDEr"] == pytest.approx([0, 10, 10])
    assert scores.per_example["ROUGE-L"] == pytest.approx([0, 1, 1])
    # all 12 predicted words are right; 19 words were wanted: brevity penalty exp(1 - 19 / 12)
    assert scores.values["BLEU-1"] == pytest.approx(0.55803515, abs=1e-6)
    assert capfd.readouterr() == ("", "")


@needs_java
def test_all_predictions_empty_score_zero() -> None:
    scores = score_captions(said("", ""), [captioned("0", "a dog"), captioned("1", "a cat")])
    assert all(value == pytest.approx(0, abs=1e-9) for value in scores.values.values())


@needs_java
def test_references_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="no reference caption contains a word"):
        score_captions(said("a dog"), [captioned("0", "...")])


def test_without_java_nothing_is_computed_and_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(captioning, "tokenise", lambda _: pytest.fail("was computed"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match="apt-get install default-jre-headless"):
        score_captions(said("a dog"), [captioned("0", "a dog")])


def test_a_java_that_does_not_run_is_noticed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'no runtime present' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/bin")
    assert subprocess.run(["java"], capture_output=True, check=False).returncode == 1
    with pytest.raises(MissingToolError, match="does not run"):
        require_tools()
