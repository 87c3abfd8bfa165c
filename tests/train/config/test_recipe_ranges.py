"""Every number of a recipe has a range, and a number outside it ends the command at once."""

import math
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from epalm.errors import RecipeError, UsageError
from epalm.model.method.model_settings import Decoding
from epalm.train.cli import app
from epalm.train.config.recipe import Recipe, Schedule, load_recipe
from epalm.train.config.recipe_ranges import RECIPE_RANGES, SCHEDULE_RANGES

BEYOND = 10**18
PLAIN = {name for name in RECIPE_RANGES if name not in ("temperature", "top_p")}
FLOATS = {
    field.name for kind in (Recipe, Schedule) for field in fields(kind) if field.type is float
}


@pytest.mark.parametrize(("kind", "ranges"), [(Recipe, RECIPE_RANGES), (Schedule, SCHEDULE_RANGES)])
def test_every_number_of_a_recipe_has_a_range(
    kind: type[Recipe] | type[Schedule], ranges: dict[str, object]
) -> None:
    numbers = {field.name for field in fields(kind) if field.type in (int, float)}
    assert numbers == set(ranges)


KEYS = [*RECIPE_RANGES, *(f"schedule.{name}" for name in SCHEDULE_RANGES)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [-1, BEYOND, -BEYOND, math.nan, math.inf, -math.inf])
def test_a_number_outside_its_range_is_refused(key: str, value: float) -> None:
    name = key.removeprefix("schedule.")
    if name in FLOATS and isinstance(value, int):
        value = float(value)
    with pytest.raises(UsageError, match=rf"{name} is .*, expected (int|more|at most|less|\d+ or)"):
        load_recipe("small", [(key, value)])


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", ["text", "1", True, [1], {"a": 1}])
def test_a_value_of_another_type_is_refused(key: str, value: object) -> None:
    with pytest.raises(RecipeError, match=r"is .*, expected (int|float)"):
        load_recipe("small", [(key, value)])


@pytest.mark.parametrize("key", [key for key in KEYS if key.rpartition(".")[2] not in FLOATS])
def test_a_fraction_is_no_count(key: str) -> None:
    with pytest.raises(RecipeError, match=r"is 1\.0, expected int"):
        load_recipe("small", [(key, 1.0)])


@pytest.mark.parametrize(
    "changes", [{"num_beams": 10**6}, {"max_new_tokens": 10**9}, {"temperature": math.inf}]
)
def test_generation_has_the_same_ranges(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="expected at most"):
        Decoding(do_sample="temperature" in changes, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["--seed", str(2**63)], "--seed is 9223372036854775808, expected at most"),
        (["--limit", "-3"], "--limit is -3, expected 0 or more"),
    ],
)
def test_options_have_ranges_too_and_nothing_is_read_first(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["--features", "nowhere.zarr", *options])
    assert isinstance(result.exception, UsageError)
    assert words in str(result.exception)
