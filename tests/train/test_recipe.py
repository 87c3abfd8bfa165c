import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.cache.spec import StoreSpec
from epalm.errors import RecipeError, UsageError
from epalm.model.decode import Decoding
from epalm.tasks.registry import load_task
from epalm.train.recipe import Schedule, default_recipe, known_recipes, load_recipe
from epalm.train.schedule import learning_rate

SPEC = StoreSpec("coco", "vit-b16", {}, layers=tuple(range(12)), width=768, count=9)
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "schedule.json"


@pytest.mark.parametrize("name", known_recipes())
def test_a_recipe_that_comes_with_the_package_survives_a_round_trip(
    name: str, tmp_path: Path
) -> None:
    recipe = load_recipe(name)
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert load_recipe(str(copy)) == recipe


@pytest.mark.parametrize(
    ("task", "encoder", "epochs", "batch_size"),
    [
        ("vqa2", "vit-b16", 8, 64),
        ("coco-caption", "vit-b16", 8, 64),
        ("msrvtt-qa", "timesformer-b", 25, 32),
        ("msvd-qa", "timesformer-b", 25, 32),
        ("msrvtt-caption", "timesformer-b", 25, 64),
        ("audiocaps-caption", "ast", 30, 32),
    ],
)
def test_a_published_task_is_trained_by_the_recipe_of_its_name_and_the_papers_numbers(
    task: str, encoder: str, epochs: int, batch_size: int
) -> None:
    assert load_task(task).name == task
    recipe = load_recipe(default_recipe(task))
    assert (recipe.encoder, recipe.epochs, recipe.batch_size) == (encoder, epochs, batch_size)
    assert (recipe.lm, recipe.variant, recipe.lr, recipe.prompt_lr) == (
        "facebook/opt-2.7b",
        "full",
        2e-5,
        1e-5,
    )


def test_a_change_reaches_into_a_table() -> None:
    recipe = load_recipe("vqa2", ["schedule.min_lr=3e-6", "lm=facebook/opt-125m", "epochs=2"])
    assert (recipe.schedule.min_lr, recipe.lm, recipe.epochs) == (3e-6, "facebook/opt-125m", 2)


def test_sampling_reaches_generation_and_survives_a_round_trip(tmp_path: Path) -> None:
    changes = ["num_beams=1", "do_sample=true", "temperature=0.7", "top_p=0.9"]
    recipe = load_recipe("vqa2", changes)
    wanted = Decoding(recipe.max_new_tokens, do_sample=True, temperature=0.7, top_p=0.9)
    assert recipe.decoding() == wanted
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert load_recipe(str(copy)) == recipe
    with pytest.raises(UsageError, match="sampling keeps one text, found num_beams 3"):
        load_recipe("vqa2", ["num_beams=3", "do_sample=true"])


def test_text_step_reaches_the_model() -> None:
    settings = load_recipe("vqa2", ["text_step=2"]).model_settings("qa", SPEC)
    assert settings.text_step == 2


@pytest.mark.parametrize(
    ("asked", "blocks"),
    [("auto", (6, 7, 8, 9, 10, 11)), ("all", tuple(range(12))), ("11,0,5", (0, 5, 11))],
)
def test_blocks_of_the_encoder_can_be_chosen_from_one_store(
    asked: str, blocks: tuple[int, ...]
) -> None:
    recipe = load_recipe("vqa2", [f"source_layers={asked!r}"])
    settings = recipe.model_settings("qa", SPEC)
    assert (settings.blocks, settings.cached) == (blocks, len(blocks))


def test_a_block_that_the_store_lacks_is_refused() -> None:
    few = replace(SPEC, layers=(9, 10, 11))
    assert load_recipe("vqa2").model_settings("qa", few).blocks == (0, 1, 2)
    with pytest.raises(UsageError, match=r"there is no block 5, the blocks are 9, 10, 11"):
        load_recipe("vqa2", ["source_layers='5,11'"]).model_settings("qa", few)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "schedule.minlr=1",
            r"vqa2 \[schedule\] has an unknown key 'minlr', did you mean 'min_lr'",
        ),
        ("epochs=0", "epochs is 0, wanted more than 0"),
        ("text_step=0", "text_step is 0, wanted more than 0"),
        ("variant=ada9", "variant 'ada9' is unknown; known are lin"),
        ("tail=sometimes", "tail is 'sometimes', wanted one of causal, official, drop"),
        ("qa_template='{prompt}'", r"must end in '\{answer\}'"),
        ("epochs", "is no change, wanted key=value"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(change: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load_recipe("vqa2", [change])


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
    found = [
        learning_rate(schedule, case["lr"], step=step, steps_per_epoch=steps, epochs=epochs)
        for step in range(len(rates))
    ]
    assert found == pytest.approx(rates, abs=1e-12)


def test_our_schedule_warms_up_and_ends_low() -> None:
    schedule = Schedule(kind="cosine", min_lr=0.1, warmup_lr=0.0, warmup_steps=4)
    rates = [
        learning_rate(schedule, 1.0, step=step, steps_per_epoch=10, epochs=2) for step in range(20)
    ]
    assert rates[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert rates[-1] == pytest.approx(0.1, abs=0.02)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[4:]))
