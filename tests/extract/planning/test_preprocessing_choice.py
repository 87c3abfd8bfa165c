"""The default of --preprocessing: the paper's where its recipes read it, else the encoder's own."""

import logging

import pytest

from epalm.extract.planning.preprocessing_choice import (
    PAPER_DATASETS,
    choose_preprocessing,
    default_preprocessing,
)
from epalm.tasks.task_registry import DATASETS
from epalm.train.config.recipe import default_recipe, load_recipe

DEFAULTS = [
    ("vit-b16", "coco", "paper"),
    ("timesformer-b", "msvd", "paper"),
    ("ast", "audiocaps", "paper"),
    ("vit-b16", "my/photos.jsonl", "native"),
    ("vit-b16", "flickr8k", "native"),
    ("timm:vit_base_patch16_224", "coco", "native"),
    ("hf:facebook/dinov2-base", "coco", "native"),
    ("my.module:encoder", "my/photos.jsonl", "paper"),
]


@pytest.mark.parametrize(("encoder", "dataset", "expected"), DEFAULTS)
def test_the_paper_keeps_its_preprocessing_and_others_get_their_own(
    encoder: str, dataset: str, expected: str
) -> None:
    assert default_preprocessing(encoder, dataset) == expected


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_the_default_is_what_the_recipe_of_the_dataset_expects(dataset: str) -> None:
    tasks = {"coco": "vqa2", "coco-test2015": "vqa2", "msrvtt": "msrvtt-qa", "msvd": "msvd-qa"}
    task = tasks.get(dataset, "gqa" if dataset == "gqa" else f"{dataset}-caption")
    recipe = "cc3m-caption" if dataset == "nocaps" else default_recipe(task)  # evaluated on nocaps
    expects = load_recipe(recipe).preprocessing == "official"
    assert expects == (dataset in PAPER_DATASETS)


@pytest.mark.parametrize("name", ["paper", "official"])
def test_the_earlier_name_is_recorded_for_both(name: str) -> None:
    found = choose_preprocessing(name, encoder="timm:a", dataset="b", recorded="")
    assert found == "official"


def test_a_store_is_resumed_with_its_own_preprocessing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = choose_preprocessing(None, encoder="vit-b16", dataset="a", recorded="official")
    assert found == "official"
    assert caplog.messages == ["--preprocessing paper, as in the store; --fresh takes the default"]
    assert choose_preprocessing(None, encoder="vit-b16", dataset="a", recorded="") == "native"
    assert choose_preprocessing(None, encoder="a:b", dataset="a", recorded="own") == "official"


def test_what_is_typed_counts_whatever_is_recorded() -> None:
    found = choose_preprocessing("native", encoder="vit-b16", dataset="coco", recorded="official")
    assert found == "native"
