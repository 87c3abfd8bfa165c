import ast
import itertools
import json
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from epalm.cache.spec import StoreSpec
from epalm.errors import RecipeError, UsageError
from epalm.model.method.model_settings import Decoding, SourceSettings
from epalm.tasks.task_registry import TASKS, load_task
from epalm.train.config.config_io import parse_changes
from epalm.train.config.lr_schedule import learning_rate, warn_of_long_warmup
from epalm.train.config.recipe import (
    FALLBACK_RECIPE,
    Recipe,
    Schedule,
    data_amount_changes,
    default_recipe,
    load_recipe,
)
from epalm.train.config.recipe_file import RECIPE_FOLDER, known_recipes, read_recipe_file
from tests.repository import ROOT, needs_checkout

SPEC = StoreSpec("coco", "vit-b16", {}, layers=tuple(range(12)), width=768, count=9)
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "schedule.json"


@pytest.mark.parametrize("name", known_recipes())
def test_a_recipe_that_comes_with_the_package_survives_a_round_trip(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert load_recipe(str(copy)) == recipe


MAIN = {
    "lm": "facebook/opt-2.7b",
    "variant": "full",
    "encoder": "vit-b16",
    "preprocessing": "official",
    "epochs": 8,
    "batch_size": 64,
    "lr": 2e-5,
    "prompt_lr": 1e-5,
    "adapter_lr": 1e-5,
    "weight_decay": 0.02,
    "clip_norm": 0.0,
    "loss_weight": 0.1,
    "label_smoothing": 0.0,
    "supervise": "all",
    "normalize": "sample",
    "lm_dropout": 0.1,
    "prompt_length": 10,
    "text_step": 1,
    "qa_template": "{prompt}?</a>{answer}",
    "caption_template": "{answer}",
    "num_beams": 3,
    "do_sample": False,
    "schedule": Schedule("published", 1e-6, 1e-5, warmup_steps=4, stair_steps=100),
}
"""What the paper and the released configuration say of the main model on VQA v2."""

HIGHER = {"lr": 2e-4, "schedule": Schedule("published", 1e-5, 1e-4, 4, stair_steps=100)}
"""Learning rates of the pt-L model and of few-shot training."""

PT_L = {
    **HIGHER,
    "lm": "facebook/opt-6.7b",
    "variant": "pt-light",
    "encoder": "vit-l16",
    "epochs": 35,
    "batch_size": 16,
    "prompt_lr": 1e-3,
}
VIDEO = {"encoder": "timesformer-b", "epochs": 25}
FEW_SHOT = {"train_split": "standard_train", "val_split": "standard_val", "train_examples": 512}

PUBLISHED: dict[str, dict[str, object]] = {
    "vqa2": {},
    "okvqa": {},
    "gqa": {"batch_size": 128},
    "coco-caption": {"max_new_tokens": 30},
    "msrvtt-qa": VIDEO | {"batch_size": 32},
    "msvd-qa": VIDEO | {"batch_size": 32},
    "msrvtt-caption": VIDEO,
    "audiocaps-caption": {"encoder": "ast", "epochs": 30, "batch_size": 32},
    "vqa2-pt-l": PT_L | {"train_split": "standard_train", "val_split": "karpathy_val"},
    "gqa-pt-l": PT_L | {"batch_size": 64, "train_split": ""},
    "coco-caption-pt-l": PT_L | {"train_split": "", "val_split": ""},
    "cc3m-caption": PT_L | {"epochs": 4, "train_split": ""},
    "vqa2-few-shot": HIGHER | FEW_SHOT | {"epochs": 64},
    "vqa2-for-video": HIGHER | {"encoder": "timesformer-b", "epochs": 4},
}
"""Recipe -> where it differs from `MAIN`."""


def test_every_recipe_but_our_own_small_one_is_compared_with_what_was_published() -> None:
    assert sorted([*PUBLISHED, FALLBACK_RECIPE]) == known_recipes()


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers(name: str) -> None:
    recipe = load_recipe(name)
    expected = MAIN | PUBLISHED[name]
    assert {key: getattr(recipe, key) for key in expected} == expected


@pytest.mark.parametrize("task", [task for task in TASKS if task in known_recipes()])
def test_a_task_with_a_recipe_of_its_name_is_trained_by_it(task: str) -> None:
    assert default_recipe(task) == task
    assert default_recipe("flickr8k-caption") == FALLBACK_RECIPE


@pytest.mark.parametrize("name", known_recipes())
def test_the_splits_of_a_recipe_are_the_tasks(name: str) -> None:
    recipe = load_recipe(name)
    (task,) = [load_task(task) for task in TASKS if name.startswith(task)] or [load_task("vqa2")]
    assert {recipe.train_split, recipe.val_split} <= {"", *task.splits}


@pytest.mark.parametrize("name", known_recipes())
def test_the_head_of_a_recipe_says_how_to_run_it_and_what_to_expect(name: str) -> None:
    text = (RECIPE_FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    head = [line for line in text.splitlines() if line.startswith("#")]
    for expected in ("# epalm-train --features ", "# epalm-eval ", "# Score: ", "# Time: "):
        assert any(line.startswith(expected) for line in head), expected
    trained = next(line for line in head if line.startswith("# epalm-train"))
    task = trained.partition("--task ")[2].partition(" ")[0]
    assert f"--recipe {name}" in trained or name in (task, *TASKS)


@pytest.mark.parametrize("name", known_recipes())
def test_every_key_of_a_recipe_that_extends_another_changes_something(name: str) -> None:
    own = tomllib.loads((RECIPE_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    if base := own.pop("extends", ""):
        below = read_recipe_file(base)
        schedule = own.pop("schedule", {})
        idle = [key for key, value in own.items() if below.get(key, "") == value]
        idle += [key for key, value in schedule.items() if below["schedule"][key] == value]
        assert idle == []


@needs_checkout
@pytest.mark.parametrize("kind", [Recipe, Schedule])
def test_every_key_is_read_somewhere(kind: type[Recipe] | type[Schedule]) -> None:
    read = {
        node.attr
        for package in ("train", "model")
        for file in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert {field.name for field in fields(kind)} - read == set()


def test_a_recipe_file_extends_another_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('extends = "vqa2"\nepochs = 3\n[schedule]\nmin_lr = 3e-6\n')
    (tmp_path / "own.toml").write_text('extends = "base.toml"\nlr = 1e-3\n')
    expected = ["epochs=3", "lr=1e-3", "schedule.min_lr=3e-6"]
    assert load_recipe(str(tmp_path / "own.toml")) == load_recipe("vqa2", parse_changes(expected))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "own.toml"', "own.toml extends itself"),
        ("extends = 7", "extends is 7, expected the name of a recipe"),
        (
            'extends = "vqa3"',
            "there is no recipe 'vqa3'; did you mean vqa2.* known are audiocaps-caption",
        ),
        ('extends = "vqa2"\nschedule = 7', "schedule is 7, expected Schedule"),
    ],
)
def test_a_recipe_that_cannot_extend_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        load_recipe(str(tmp_path / "own.toml"))


def test_an_amount_of_data_on_the_command_line_replaces_the_recipes() -> None:
    few = load_recipe("vqa2-few-shot", data_amount_changes(0, 0.01))
    assert (few.train_examples, few.train_fraction) == (0, 0.01)
    more = load_recipe("vqa2-few-shot", [("train_examples", 0), *data_amount_changes(1024, 0)])
    assert (more.train_examples, more.train_fraction) == (1024, 1.0)
    assert data_amount_changes(0, 0) == []
    with pytest.raises(RecipeError, match="exclude each other"):
        data_amount_changes(512, 0.01)


def test_a_change_reaches_into_a_table() -> None:
    changes = parse_changes(["schedule.min_lr=3e-6", "lm=facebook/opt-125m", "epochs=2"])
    recipe = load_recipe("vqa2", changes)
    assert (recipe.schedule.min_lr, recipe.lm, recipe.epochs) == (3e-6, "facebook/opt-125m", 2)


def test_sampling_reaches_generation_and_survives_a_round_trip(tmp_path: Path) -> None:
    changes = parse_changes(["num_beams=1", "do_sample=true", "temperature=0.7", "top_p=0.9"])
    recipe = load_recipe("vqa2", changes)
    expected = Decoding(recipe.max_new_tokens, do_sample=True, temperature=0.7, top_p=0.9)
    assert recipe.decoding() == expected
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert load_recipe(str(copy)) == recipe
    with pytest.raises(UsageError, match="sampling needs num_beams 1, found num_beams 3"):
        load_recipe("vqa2", [("num_beams", 3), ("do_sample", True)])


def test_text_step_reaches_the_model() -> None:
    settings = load_recipe("vqa2", [("text_step", 2)]).model_settings("qa", SPEC)
    assert settings.text_step == 2


@pytest.mark.parametrize(
    ("asked", "blocks"),
    [("auto", (6, 7, 8, 9, 10, 11)), ("all", tuple(range(12))), ("11,0,5", (0, 5, 11))],
)
def test_blocks_of_the_encoder_can_be_chosen_from_one_store(
    asked: str, blocks: tuple[int, ...]
) -> None:
    recipe = load_recipe("vqa2", [("source_layers", asked)])
    settings = recipe.model_settings("qa", SPEC)
    assert (settings.blocks, settings.cached) == (blocks, len(blocks))


def test_the_blocks_of_stages_are_the_last_of_each_quarter_of_the_encoder() -> None:
    recipe = load_recipe("vqa2", [("variant", "multi-stage")])
    assert recipe.model_settings("qa", SPEC).blocks == (2, 5, 8, 11)
    stages = replace(SPEC, layers=(2, 5, 8, 11))
    assert recipe.model_settings("qa", stages).blocks == (0, 1, 2, 3)
    chosen = load_recipe("vqa2", [("variant", "multi-stage"), ("source_layers", "0,11")])
    assert chosen.model_settings("qa", SPEC).blocks == (0, 11)
    last = replace(SPEC, layers=(6, 7, 8, 9, 10, 11))
    with pytest.raises(UsageError, match=r"stages, 2,5,8,11, .*--source-layers 2,5,8,11`"):
        recipe.model_settings("qa", last)


def test_settings_of_several_stores_describe_each_of_them() -> None:
    other = replace(SPEC, layers=(3, 4), width=384, positions=2)
    settings = load_recipe("vqa2", [("source_layers", "all")]).model_settings("qa", SPEC, other)
    assert settings.encoder_width == SPEC.width
    assert settings.sources == (
        SourceSettings(SPEC.width, 12, tuple(range(12))),
        SourceSettings(384, 4, (0, 1), positions=2),
    )
    assert not load_recipe("vqa2").model_settings("qa", SPEC).sources


def test_a_block_that_the_store_lacks_is_refused() -> None:
    few = replace(SPEC, layers=(9, 10, 11))
    assert load_recipe("vqa2").model_settings("qa", few).blocks == (0, 1, 2)
    with pytest.raises(UsageError, match=r"there is no block 5, the blocks are 9, 10, 11"):
        load_recipe("vqa2", [("source_layers", "5,11")]).model_settings("qa", few)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "schedule.minlr=1",
            r"vqa2 \[schedule\] has an unknown key 'minlr', did you mean 'min_lr'",
        ),
        ("epochs=0", "epochs is 0, expected more than 0"),
        ("train_fraction=0.0", "train_fraction is 0.0, expected more than 0"),
        ("train_fraction=1.5", "train_fraction is 1.5, expected at most 1"),
        ("train_examples=-1", "train_examples is -1, expected 0 or more"),
        ("text_step=0", "text_step is 0, expected more than 0"),
        ("variant=ada9", "variant 'ada9' is unknown; did you mean ada.* known are lin"),
        ("tail=sometimes", "tail is 'sometimes', expected one of causal, official, drop"),
        ("qa_template='{prompt}'", r"must end in '\{answer\}'"),
        ("epochs", "is no change of a recipe, expected key=value"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_recipe("vqa2", parse_changes([change]))


def test_a_recipe_without_a_needed_key_names_it(tmp_path: Path) -> None:
    file = tmp_path / "short.toml"
    file.write_text('lm = "x"\n')
    with pytest.raises(RecipeError, match="lacks lm_precision, variant, epochs"):
        load_recipe(str(file))


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text()), ids=lambda case: case["name"])
def test_learning_rates_equal_the_released_schedulers(case: dict[str, float]) -> None:
    rates: list[float] = case["lr_per_iteration"]  # type: ignore[assignment]
    schedule = Schedule(
        kind="published",
        min_lr=case["min_lr"],
        warmup_lr=case["warmup_lr"],
        warmup_steps=int(case["warmup_steps"]),
        stair_steps=int(case["warmup_step_size"]),
    )
    steps, epochs = int(case["iters_per_epoch"]), int(case["epochs"])
    actual = [
        learning_rate(schedule, case["lr"], step=step, steps_per_epoch=steps, epochs=epochs)
        for step in range(len(rates))
    ]
    assert actual == pytest.approx(rates, abs=1e-12)


def test_our_schedule_warms_up_and_ends_low() -> None:
    schedule = Schedule(kind="cosine", min_lr=0.1, warmup_lr=0.0, warmup_steps=4)
    rates = [
        learning_rate(schedule, 1.0, step=step, steps_per_epoch=10, epochs=2) for step in range(20)
    ]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[-1] == pytest.approx(0.1, abs=0.02)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))
    fraction = replace(schedule, warmup_steps=0, warmup_fraction=0.2)
    assert rates == [
        learning_rate(fraction, 1.0, step=step, steps_per_epoch=10, epochs=2) for step in range(20)
    ]


def test_a_fraction_of_warm_up_is_refused_where_there_are_stairs() -> None:
    with pytest.raises(RecipeError, match=r"warmup_fraction is 0.1, but .* kind published"):
        load_recipe("vqa2", [("schedule.warmup_fraction", 0.1)])
    assert load_recipe("small", [("schedule.warmup_fraction", 0.1)]).schedule.warmup_steps == 50


@pytest.mark.parametrize(
    ("name", "changes", "examples", "words"),
    [
        ("small", [], 1599, ""),  # 50 steps
        ("small", [], 640, "takes 50 steps, the run has 20: .* schedule.warmup_steps=2 or --set"),
        ("small", ["schedule.warmup_fraction=0.5"], 640, ""),
        ("vqa2", [], 640, "takes 400 steps, the run has 80: .* schedule.warmup_steps=0$"),
        ("vqa2", [], 3200, ""),
    ],
)
def test_a_warm_up_longer_than_the_run_gives_one_warning_with_numbers(
    name: str, changes: list[str], examples: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_long_warmup(load_recipe(name, parse_changes(changes)), examples)
    output = [record.getMessage() for record in caplog.records]
    assert len(output) == bool(words)
    assert all(re.search(words, line) for line in output)
