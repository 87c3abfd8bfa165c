"""A recipe that was written loads to the same recipe, whatever characters its texts contain."""

import json
import tomllib
from pathlib import Path

import pytest

from epalm.errors import MalformedFileError, RecipeError
from epalm.model.checkpoints.run_record import RECIPE_FILE, read_recipe
from epalm.train.config.config_io import parse_changes
from epalm.train.config.recipe import load_recipe

STRANGE = [
    'Question: {prompt}\nAnswer: "',
    'it\'s "both" \'\'\'quotes\'\'\' and """more""" {prompt}',
    "back\\slash \\n \\u0041 {prompt}\\",
    "tab\t return\r line\u2028 next\x85 {prompt}",
    "".join(map(chr, range(32))) + "\x7f {prompt}",
    "日本語 é e\u0301 \U0001f600 \ufeff {prompt}",
    "# no comment, [no table], key = 3 {prompt} ",
    " {prompt}",
]


@pytest.mark.parametrize("text", STRANGE)
def test_strange_texts_survive_training_and_evaluation(text: str, tmp_path: Path) -> None:
    template = text + "{answer}"
    recipe = load_recipe("small", [("qa_template", template), ("lm", text), ("train_split", text)])
    assert recipe.qa_template == template
    file = tmp_path / RECIPE_FILE
    file.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(str(file)) == recipe
    assert read_recipe(tmp_path)["qa_template"] == template
    assert tomllib.loads(recipe.to_toml())["train_split"] == text


@pytest.mark.parametrize("text", STRANGE)
def test_a_change_on_the_command_line_takes_toml_escapes(text: str) -> None:
    escaped = json.dumps(text + "{answer}").replace("\x7f", "\\u007f")
    if "\\ud" in escaped:  # JSON writes surrogate pairs, TOML has none
        escaped = json.dumps(text + "{answer}", ensure_ascii=False)
    assert load_recipe("small", parse_changes([f"qa_template={escaped}"])).qa_template == (
        text + "{answer}"
    )


def test_a_path_with_quotes_stays_a_path() -> None:
    path = '/home/o\'brien/"my" models/opt'
    assert load_recipe("small", [("lm", path)]).lm == path


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"train_split is '\\udc80', which is no valid Unicode"):
        load_recipe("small", [("train_split", "\udc80")])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("=3", "'=3' is no change of a recipe, expected key=value"),
        ("epochs.more=3", "epochs.more cannot be set: epochs is 2, not a table"),
        ("epochs=3\nlr=1", "epochs is '3.*lr=1', expected int"),
        ("lr=1" + 5000 * "0", r"lr is '10+ \.\.\., expected float"),
        ("lr=1" + 400 * "0", "lr has too many digits"),
        ("schedule.kind.x=3", "kind is 'cosine', not a table"),
    ],
)
def test_a_change_that_is_none_is_one_error(change: str, words: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s){words}"):
        load_recipe("small", parse_changes([change]))


@pytest.mark.parametrize("value", ["[" * 3000 + "]" * 3000, "1" * 5000, "{a=" * 2000 + "1"])
def test_a_recipe_file_with_endless_values_is_refused_in_one_line(
    tmp_path: Path, value: str
) -> None:
    file = tmp_path / "endless.toml"
    file.write_text(f"lr = {value}\n")
    with pytest.raises(RecipeError, match=r"endless\.toml is not TOML") as refused:
        load_recipe(str(file))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("change", ["lr=" + "[" * 10_000, "x" * 10_000, f"{'x' * 10_000}=1"])
def test_a_message_quotes_only_the_beginning_of_a_change(change: str) -> None:
    with pytest.raises(RecipeError) as refused:
        load_recipe("vqa2", parse_changes([change]))
    assert len(str(refused.value)) < 2000


def test_evaluation_refuses_a_recipe_of_a_run_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / RECIPE_FILE).write_text("lr = " + "[" * 3000)
    with pytest.raises(MalformedFileError, match="is not a recipe"):
        read_recipe(tmp_path)
