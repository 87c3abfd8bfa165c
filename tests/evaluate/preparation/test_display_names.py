"""Names of models and stores in reports."""

from pathlib import Path

import pytest

from epalm.evaluate.preparation.display_names import file_name, model_name, preprocessing_words


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("facebook/opt-2.7b", "facebook/opt-2.7b"),
        ("vit-b16", "vit-b16"),
        ("epalm.demo.encoder:micro_vit", "epalm.demo.encoder:micro_vit"),
        ("hf:openai/whisper-tiny.en", "hf:openai/whisper-tiny.en"),
        ("hf:/home/me/whisper", "hf:whisper"),
        ("/home/me/opt-125m", "opt-125m"),
        ("/home/me/opt-125m/", "opt-125m"),
        ("weights/lm/opt", "opt"),
        ("./opt", "opt"),
        ("../weights/opt", "opt"),
        ("~/opt", "opt"),
        ("s3://bucket/opt", "s3://bucket/opt"),
    ],
)
def test_a_model_is_shown_by_its_hub_id_or_the_name_of_its_folder(address: str, shown: str) -> None:
    assert model_name(address) == shown


def test_what_looks_like_a_hub_id_but_exists_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facebook" / "opt").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert model_name("facebook/opt") == "opt"
    assert model_name("facebook/other") == "facebook/other"


def test_a_store_is_shown_by_its_name_or_url() -> None:
    assert file_name("/home/me/cache/coco_vitb16.zarr") == "coco_vitb16.zarr"
    assert file_name("cache/coco_vitb16.zarr") == "coco_vitb16.zarr"
    assert file_name("s3://bucket/coco.zarr") == "s3://bucket/coco.zarr"


def test_the_preprocessing_is_named_as_users_write_it_with_its_settings() -> None:
    store = {
        "encoder": "vit-b16",
        "fingerprint.preprocessing.size": "224",
        "fingerprint.preprocessing.name": "official",
        "fingerprint.preprocessing.keep_shape": "False",
    }
    assert preprocessing_words(store) == "paper, size 224, keep shape False"
    assert preprocessing_words({"encoder": "vit-b16"}) == ""
