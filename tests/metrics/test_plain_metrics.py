"""The metrics as functions, worked by hand."""

import shutil

import pytest

from epalm.errors import EpalmError
from epalm.metrics import caption_scores, cider, exact_match, rouge_l, vqa_accuracy


def test_each_function_gives_the_mean_over_all_predictions() -> None:
    assert exact_match(["red", "two", "no"], [["red"], ["three"], ["no"]]) == pytest.approx(2 / 3)
    people = ["red"] * 2 + ["blue"] * 8
    assert vqa_accuracy(["red", "green"], [people, people]) == pytest.approx(0.6 / 2)
    # the longest common subsequence "a dog" is 2 of 3 words of both: precision equals recall
    assert rouge_l(["a dog sits"], [["a dog runs"]]) == pytest.approx(2 / 3)


def test_captions_have_the_same_scores_together_and_one_by_one() -> None:
    captions = ["a dog runs on grass", "a red car", "two men sit"]
    references = [["a dog runs", "a brown dog"], ["a red car parked"], ["two men sit down"]]
    together = caption_scores(captions, references)
    assert {"BLEU-1", "BLEU-4", "CIDEr", "ROUGE-L"} <= set(together)
    assert ("METEOR" in together) is (shutil.which("java") is not None)
    assert cider(captions, references) == together["CIDEr"] > 1
    assert rouge_l(captions, references) == together["ROUGE-L"]


def test_as_many_references_as_predictions_are_wanted() -> None:
    with pytest.raises(EpalmError, match="2"):
        exact_match(["red", "blue"], [["red"]])


def test_a_text_in_the_place_of_a_list_is_refused() -> None:
    with pytest.raises(EpalmError, match="found a text in place of a list"):
        exact_match("red", [["r"], ["e"], ["d"]])
    with pytest.raises(EpalmError, match="found a text in place of a list"):
        exact_match(["red", "blue"], [["red"], "blue"])
