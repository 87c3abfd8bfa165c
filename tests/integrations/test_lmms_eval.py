"""The plugin of lmms-eval: its parts here, and its run in an environment of its own."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.repository import PACKAGES, ROOT, sources

PLUGIN = ROOT / "integrations" / "lmms_eval"
MODULES = ("generation", "media_inputs", "questions", "requests")
"""Modules that do not import lmms-eval."""

pytestmark = pytest.mark.skipif(not PLUGIN.is_dir(), reason="needs a checkout with integrations")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.syspath_prepend(PLUGIN)
    yield {name: import_module(f"epalm_lmms_eval.{name}") for name in MODULES}
    for name in [name for name in sys.modules if name.startswith("epalm_lmms_eval")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (
            {"max_new_tokens": 64, "temperature": 0.0, "top_p": 1.0, "num_beams": 1},
            {"max_new_tokens": 64, "num_beams": 1, "do_sample": False},
        ),
        ({"until": ["\n\n"], "num_beams": None}, {"do_sample": False}),
        (
            {"temperature": 0.7, "top_p": 0.9, "num_beams": 1},
            {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
        ),
        ({"do_sample": True, "max_new_tokens": 8}, {"do_sample": True, "max_new_tokens": 8}),
    ],
)
def test_the_generation_settings_of_a_task_become_decoding_settings(
    plugin: dict[str, Any], settings: dict[str, object], changes: dict[str, object]
) -> None:
    assert plugin["generation"].decoding_changes(settings) == changes


def test_unknown_generation_settings_are_named(plugin: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"sets length_penalty, .*decoding=run"):
        plugin["generation"].decoding_changes({"length_penalty": 2, "num_beams": 1})


def test_a_text_ends_before_the_first_stop_sequence(plugin: dict[str, Any]) -> None:
    cut_at = plugin["generation"].cut_at
    assert cut_at("a dog\n\nQ: b.", [".", "\n\n"]) == "a dog"
    assert cut_at("a dog. b", ".") == "a dog"
    assert cut_at("a dog", None) == cut_at("a dog", ["", "x"]) == "a dog"


def test_a_plain_question_has_no_instruction(plugin: dict[str, Any]) -> None:
    question_of = plugin["questions"].question_of
    asked = "how many?\nAnswer the question using a single word or phrase."
    assert question_of(asked, plain=True) == "how many?"
    assert question_of(asked, plain=False) == asked
    assert question_of("<image>\nwhat is it?", plain=False) == "what is it?"
    assert question_of("is it\nred?", plain=True) == "is it\nred?"


def test_different_questions_to_a_run_of_captions_are_refused(plugin: dict[str, Any]) -> None:
    check = plugin["questions"].check_same_request
    check(["Describe it."] * 3, task="coco", run="captions")
    with pytest.raises(ValueError, match="task gqa asks 'a' and 'b': evaluate a run that answers"):
        check(["a", "a", "b"], task="gqa", run="captions")


def test_what_a_task_shows_becomes_one_sample(plugin: dict[str, Any]) -> None:
    sample_of = plugin["media_inputs"].sample_of
    image, wave = Image.new("RGB", (4, 4)), np.zeros(8, np.float32)
    assert sample_of([image], modality="image", task="t") is image
    assert sample_of([Path("a.mp4")], modality="video", task="t") == "a.mp4"
    clip = {"array": wave, "sampling_rate": 16_000}
    assert sample_of([clip], modality="audio", task="t") == (pytest.approx(wave), 16_000)
    with pytest.raises(ValueError, match="task t gives 2 samples"):
        sample_of([image, image], modality="image", task="t")
    with pytest.raises(ValueError, match="task t gives a Image, and the run reads audio"):
        sample_of([image], modality="audio", task="t")


def test_requests_with_equal_settings_share_a_batch_in_their_order(plugin: dict[str, Any]) -> None:
    batches = plugin["requests"].batches
    assert batches(["x", "y", "x", "x", "y"], 2) == [[0, 2], [3], [1, 4]]
    parsed = plugin["requests"].parse(("q", {}, len, 3, "gqa", "testdev"))
    assert (parsed.context, parsed.doc_id, parsed.task) == ("q", 3, "gqa")
    with pytest.raises(ValueError, match="2 arguments, which has no sample"):
        plugin["requests"].parse(("", "yes"))
    choices = plugin["requests"].choices_of([parsed] * 3, ["no", "yes", "no"])
    assert list(choices[parsed.name]) == ["no", "yes"]


def test_the_entry_point_names_a_function_of_the_plugin() -> None:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["entry-points"]["lmms_eval.models"]["epalm"].partition(":")
    source = (PLUGIN / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert f"def {name}(" in source
    target = re.search(r'simple_class_path="([\w.]+)"', source)
    assert target
    path, _, class_name = target[1].rpartition(".")
    code = (PLUGIN / f"{path.replace('.', '/')}.py").read_text(encoding="utf-8")
    assert f"class {class_name}(lmms):" in code


def test_no_package_imports_an_integration() -> None:
    files = [file for name in PACKAGES for file in sources(name)]
    users = [file for file in files if "epalm_lmms_eval" in file.read_text(encoding="utf-8")]
    assert users == []


def test_both_pages_give_the_same_commands() -> None:
    blocks = []
    for page in (PLUGIN / "README.md", ROOT / "docs" / "how_to" / "lmms_eval.md"):
        blocks.append(re.findall(r"```bash\n(.*?)```", page.read_text("utf-8"), re.DOTALL)[0])
    assert blocks[0] == blocks[1]


@pytest.mark.slow
def test_lmms_eval_gives_the_scores_of_epalm_eval(tmp_path: Path) -> None:
    python = Path(os.environ.get("EPALM_LMMS_PYTHON", ROOT / ".venv-lmms/bin/python"))
    if not python.exists():
        pytest.skip(
            "needs the environment of integrations/lmms_eval/README.md as .venv-lmms, or its "
            "interpreter in EPALM_LMMS_PYTHON"
        )
    command = [str(python), str(PLUGIN / "check" / "compare.py"), "--out", str(tmp_path / "check")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
    report = json.loads((tmp_path / "check" / "scores.json").read_text(encoding="utf-8"))
    tasks = {pair["task"].split(",")[0] for pair in report["pairs"]}
    assert tasks == {
        *("coco2014_cap_val", "nocaps_val", "flickr30k_test", "vqav2_val", "gqa", "gqa_choices")
    }
    for pair in report["pairs"]:
        same = pair["their_value"] == pytest.approx(pair["our_value"], abs=1e-9)
        assert same == pair["equal"], pair
    assert sum(not pair["equal"] for pair in report["pairs"]) == 3
    assert report["rules"]["vqa"] >= 1000
