"""The model card of a run, parsed by the hub's own client."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from epalm.evaluate.scores.eval_results import Score, write_evaluation
from epalm.extract.encoders.encoder_names import ENCODERS
from epalm.extract.encoders.timm_vit import ARCHITECTURES
from epalm.extract.encoders.weights import hf_weights
from epalm.hub.card.base_models import PUBLISHED_ENCODERS, hub_id, license_of
from epalm.hub.card.model_card import END, write_card
from epalm.model.checkpoints.run_record import RunRecord
from epalm.model.method.model_settings import Decoding, ModelSettings
from tests.evaluate.helpers import evaluation

SETTINGS = ModelSettings(
    lm="facebook/opt-125m",
    precision="fp32",
    variant="full",
    encoder_width=768,
    cached=6,
    prompt_length=10,
    inject="auto",
    tail="causal",
    lm_dropout=0.0,
    template="{prompt} {answer}",
    supervise="answer",
)
RECORD = RunRecord(
    name="coco",
    task="vqa2",
    recipe="vqa2",
    model=SETTINGS,
    decoding=Decoding(max_new_tokens=3),
    features="/somewhere/coco.zarr",
    store={"encoder": "vit-b16", "dataset": "coco", "layers": "(6, 7)"},
    data_root="/somewhere/data",
    seed=0,
    blind=False,
    lm_digest="01234567",
    trained=1000,
    frozen=99_000,
)


def saved(folder: Path, record: RunRecord = RECORD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    record.save(folder)
    (folder / "recipe.toml").write_text("epochs = 4\nbatch_size = 16\nlr = 1e-3\n")
    return folder


def header(run: Path, **options: str) -> dict[str, Any]:
    """The header as the hub's client reads it."""
    write_card(run, **options)
    fields: dict[str, Any] = ModelCard.load(run / "README.md").data.to_dict()
    return fields


def text_of(run: Path, **options: str) -> str:
    write_card(run, **options)
    return (run / "README.md").read_text(encoding="utf-8")


def test_the_header_names_base_models_license_and_task(tmp_path: Path) -> None:
    actual = header(saved(tmp_path / "coco"))
    assert actual["library_name"] == "epalm"
    assert actual["base_model"] == [
        "facebook/opt-125m",
        "timm/vit_base_patch16_224.augreg_in21k_ft_in1k",
    ]
    assert actual["base_model_relation"] == "adapter"
    assert actual["license"] == "other"
    assert actual["license_name"] == "opt-175b-license-agreement"
    assert actual["license_link"].startswith("https://github.com/facebookresearch/metaseq/")
    assert actual["pipeline_tag"] == "visual-question-answering"
    assert actual["datasets"] == ["coco"]
    assert "model-index" not in actual
    text = (tmp_path / "coco" / "README.md").read_text(encoding="utf-8")
    assert "non-commercial" in text


def test_scores_stand_in_the_header_with_intervals_and_the_blind_control(tmp_path: Path) -> None:
    run = saved(tmp_path / "coco")
    write_evaluation(run / "eval/val", evaluation("coco"))
    blind = saved(tmp_path / "coco_blind", replace(RECORD, name="coco_blind", blind=True))
    control = replace(evaluation("b"), blind=True, scores={"exact_match": Score(0.2, 0.1, 0.3)})
    write_evaluation(blind / "eval/val-blind", control)
    fields = header(run)
    assert fields["metrics"] == ["exact_match"]
    (model,) = fields["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {
        "name": "data",
        "type": "data",
        "config": "val",
        "split": "val",
    }
    assert result["metrics"] == [
        {
            "type": "exact_match",
            "value": 50.0,
            "name": "exact_match",
            "args": {"confidence_level": 0.95, "confidence_interval": [25.0, 75.0]},
        },
        {
            "type": "exact_match",
            "value": 20.0,
            "name": "exact_match, blind control",
            "args": {"confidence_level": 0.95, "confidence_interval": [10.0, 30.0]},
        },
        {"type": "other", "value": 12.5, "name": "other"},
    ]
    text = (run / "README.md").read_text(encoding="utf-8")
    assert (
        "| data, `val` | **exact\\_match** | 50.00 | 25.00 to 75.00 | 20.00 (10.00 to 30.00) |"
        in (text)
    )


def test_a_control_of_the_run_itself_is_not_a_row_of_its_own(tmp_path: Path) -> None:
    run = saved(tmp_path / "coco")
    write_evaluation(run / "eval/val", evaluation("coco"))
    write_evaluation(run / "eval/val-blind", replace(evaluation("coco"), blind=True))
    text = text_of(run)
    assert text.count("**exact") == 1
    assert "50.00 (25.00 to 75.00) |" in text


@pytest.mark.parametrize(
    ("fields", "template", "tag", "call"),
    [
        ({}, "{answer}", "image-to-text", 'model.caption("kitchen.jpg")'),
        (
            {"fingerprint.media": "video"},
            "{prompt} {answer}",
            "video-text-to-text",
            'model.answer("kitchen.mp4", "what is the person doing?")',
        ),
        (
            {"fingerprint.filter_bank": "kaldi"},
            "{answer}",
            "audio-text-to-text",
            'model.caption("kitchen.wav")',
        ),
    ],
)
def test_the_example_fits_what_the_run_does(
    tmp_path: Path, fields: dict[str, str], template: str, tag: str, call: str
) -> None:
    model = replace(SETTINGS, template=template)
    run = saved(tmp_path / "r", replace(RECORD, model=model, store=RECORD.store | fields))
    assert header(run)["pipeline_tag"] == tag
    assert f"print({call})" in (run / "README.md").read_text(encoding="utf-8")


def test_a_local_language_model_is_said_to_be_one(tmp_path: Path) -> None:
    local = replace(RECORD, model=replace(SETTINGS, lm=str(tmp_path / "my-lm")), weights="/w.pt")
    fields = header(saved(tmp_path / "r", local))
    assert "base_model" not in fields
    assert "license" not in fields
    text = (tmp_path / "r/README.md").read_text(encoding="utf-8")
    assert "`my-lm` was a local folder (weights 01234567), so its license is not known" in text
    assert str(tmp_path) not in text


def test_the_text_of_the_user_and_unknown_keys_are_kept(tmp_path: Path) -> None:
    run = saved(tmp_path / "coco")
    text = text_of(run)
    assert text.endswith(f"{END}\n")
    edited = text.replace("library_name: epalm\n", "library_name: epalm\nlanguage: en\n")
    (run / "README.md").write_text(edited + "## My notes\n\nTry it on cats.\n")
    again = text_of(run)
    assert again.endswith(f"{END}\n## My notes\n\nTry it on cats.\n")
    assert again.count("# coco") == 1
    assert header(run)["language"] == "en"


def test_a_license_that_epalm_does_not_know_can_be_added_by_hand(tmp_path: Path) -> None:
    run = saved(tmp_path / "r", replace(RECORD, model=replace(SETTINGS, lm="someone/lm")))
    text = text_of(run)
    (run / "README.md").write_text(text.replace("---\n", "---\nlicense: mit\n", 1))
    assert header(run)["license"] == "mit"


def test_the_repository_stays_in_the_example_after_another_evaluation(tmp_path: Path) -> None:
    run = saved(tmp_path / "coco")
    assert 'epalm.load("runs/coco")' in text_of(run)
    assert 'epalm.load("user/name")' in text_of(run, repository="user/name")
    assert 'epalm.load("user/name")' in text_of(run)


@pytest.mark.parametrize(
    "existing",
    ["---\n: : a [\n---\n# mine\n", "# mine\n", "---\n- 1\n---\n# mine\n", "---\nfoo"],
)
def test_a_card_of_someone_else_is_kept_below(tmp_path: Path, existing: str) -> None:
    run = saved(tmp_path / "coco")
    (run / "README.md").write_text(existing)
    assert text_of(run).rstrip("\n").endswith(existing.rstrip("\n").splitlines()[-1])
    assert header(run)["library_name"] == "epalm"


def test_names_from_files_make_no_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | **x**\n\n# y ``` [a](http://b)"
    store = RECORD.store | {"dataset": evil, "encoder": evil}
    record = replace(RECORD, name=evil, recipe=evil, store=store)
    run = saved(tmp_path / "r", record)
    write_card(run)
    text = (run / "README.md").read_text(encoding="utf-8").partition("\n---\n")[2]
    assert "\n# y" not in text
    shown = text.partition("```python")[0] + text.partition("```python")[2].partition("```")[2]
    assert "<script" not in shown.replace("\\<script", "").replace("`<script", "")
    assert text.count("```") == 4  # the two examples


def test_config_json_has_the_digests(tmp_path: Path) -> None:
    run = saved(tmp_path / "coco")
    write_card(run)
    actual = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert actual["library_name"] == "epalm"
    assert actual["language_model"]["id"] == "facebook/opt-125m"
    assert actual["language_model"]["crc32c"] == "01234567"
    assert actual["encoder"]["name"] == "vit-b16"


def test_every_published_encoder_has_the_id_that_extraction_loads() -> None:
    expected = {name: f"timm/{architecture}" for name, architecture in ARCHITECTURES.items()}
    expected |= hf_weights.PUBLISHED
    assert expected == PUBLISHED_ENCODERS
    assert expected.keys() == ENCODERS.keys()


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("facebook/opt-125m", "facebook/opt-125m"),
        ("gpt2", "gpt2"),
        ("/models/opt", ""),
        ("hf://user/name", ""),
        ("../opt", ""),
        ("a/b/c", ""),
    ],
)
def test_an_id_on_the_hub_is_told_from_a_folder(location: str, expected: str) -> None:
    assert hub_id(location) == expected


def test_licenses_are_found_by_id() -> None:
    assert license_of("someone/lm") is None
    opt = license_of("facebook/opt-6.7b")
    assert opt is not None
    assert "non-commercial" in opt.note
