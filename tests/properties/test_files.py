"""Manifests, recipes and results: what is written is read back, and any other text is refused."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from epalm.errors import DataError, EpalmError
from epalm.evaluate.scores.eval_results import (
    Evaluation,
    PredictionRecord,
    Score,
    read_evaluation,
    write_evaluation,
)
from epalm.tasks.readers.manifest_rows import read_rows
from epalm.train.config.recipe import Recipe, load_recipe
from tests.properties.forms import TEXTS, holds_for


def _openable(name: str) -> bool:
    """Whether a file can have the name; others are refused."""
    return "\0" not in name


WORDS = TEXTS.map(str.strip).filter(bool)
NUMBERS = st.floats(0, 1, allow_nan=False)

ROWS = st.fixed_dictionaries(
    {"id": st.one_of(WORDS, st.integers(0, 10**9)), "media": WORDS.filter(_openable)},
    optional={
        "prompt": TEXTS,
        "answers": st.lists(WORDS, min_size=1, max_size=3),
        "question_type": TEXTS,
        "answer_type": TEXTS,
    },
)


@holds_for(quick=60, rows=st.lists(ROWS, min_size=1, max_size=5), ascii_only=st.booleans())
def test_a_jsonl_manifest_has_the_rows_that_json_wrote(
    rows: list[dict[str, Any]], *, ascii_only: bool
) -> None:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "m.jsonl"
        file.write_bytes(text.encode())
        assert [_members(row) for row in read_rows(file)] == list(map(_expected, rows))


@holds_for(quick=60, rows=st.lists(ROWS, min_size=1, max_size=5), delimiter=st.sampled_from(",;\t"))
def test_a_csv_manifest_has_the_rows_that_csv_wrote(
    rows: list[dict[str, Any]], delimiter: str
) -> None:
    columns = ["id", "media", "prompt", "answers", "question_type", "answer_type"]
    clean = [_without_controls(row) for row in rows]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"answers": json.dumps(row.get("answers", []))} for row in clean)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "m.csv"
        file.write_text(out.getvalue(), encoding="utf-8", newline="")
        assert [_members(row) for row in read_rows(file)] == list(map(_expected, clean))


@holds_for(quick=100, content=st.one_of(st.binary(max_size=60), TEXTS.map(str.encode)))
def test_any_other_file_is_read_or_refused_with_one_clear_error(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        for name in ("m.jsonl", "m.csv", "r.toml"):
            file = Path(folder) / name
            file.write_bytes(content)
            try:
                load_recipe(str(file)) if name == "r.toml" else list(read_rows(file))
            except EpalmError as error:
                assert name in str(error)
                assert "\n" not in str(error)


CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "lm": TEXTS,
        "caption_template": TEXTS.map(lambda text: text.replace("{", "").replace("}", "")).map(
            lambda text: text + "{answer}"
        ),
        "train_split": TEXTS,
        "lr": st.floats(1e-9, 1.0),
        "batch_size": st.integers(1, 10**6),
        "label_smoothing": st.floats(0, 0.99),
        "train_fraction": st.floats(1e-6, 1.0),
        "weight_decay": st.integers(0, 1000),
        "schedule.min_lr": st.floats(0, 1.0),
    },
)


@holds_for(quick=60, changes=CHANGES, name=st.sampled_from(["small", "vqa2", "coco-caption"]))
def test_a_recipe_that_was_written_loads_to_the_same_recipe(
    changes: dict[str, Any], name: str
) -> None:
    recipe: Recipe = load_recipe(name, list(changes.items()))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "r.toml"
        file.write_text(recipe.to_toml(), encoding="utf-8", newline="")
        again = load_recipe(str(file))
        absolute = not recipe.lm.startswith(("./", "../")) and recipe.lm not in {".", ".."}
        assert again == (recipe if absolute else replace(recipe, lm=again.lm))


PREDICTIONS = st.lists(
    st.builds(
        PredictionRecord,
        id=TEXTS,
        key=TEXTS,
        prompt=TEXTS,
        prediction=TEXTS,
        references=st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        scores=st.fixed_dictionaries({"exact_match": NUMBERS}),
        question_type=TEXTS,
        log_probability=st.one_of(st.none(), st.floats(-1e3, 0)),
        tokens=st.integers(0, 100),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda record: record.id,
)


@holds_for(
    quick=60,
    predictions=PREDICTIONS,
    value=NUMBERS,
    settings=st.dictionaries(TEXTS, TEXTS, max_size=3),
    cut=st.integers(0, 10**6),
)
def test_an_evaluation_is_read_as_written_and_a_cut_file_is_refused(
    predictions: list[PredictionRecord], value: float, settings: dict[str, str], cut: int
) -> None:
    evaluation = Evaluation(
        run="run",
        task="manifest",
        kind="qa",
        split="val",
        blind=False,
        headline="exact_match",
        scores={"exact_match": Score(value, 0.0, 1.0)},
        breakdowns={},
        settings=settings,
        fingerprint={"weights": "aa"},
        skipped=(),
        seconds=1.5,
        predictions=tuple(predictions),
    )
    with TemporaryDirectory() as name:
        folder = Path(name) / "eval"
        write_evaluation(folder, evaluation)
        assert read_evaluation(folder) == evaluation
        file = sorted(folder.iterdir())[cut % 2]
        content = file.read_bytes()
        file.write_bytes(content[: cut % max(len(content.rstrip()), 1)])
        try:
            read_evaluation(folder)
        except DataError as error:
            assert "epalm-eval" in str(error)
        else:
            raise AssertionError(f"{file.name}, cut, was read")


def _members(row: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return (row.id, row.media, row.prompt, row.answers, row.question_type, row.answer_type)


def _expected(row: dict[str, Any]) -> tuple[Any, ...]:
    texts = [row.get(name, "").strip() for name in ("prompt", "question_type", "answer_type")]
    answers = tuple(answer.strip() for answer in row.get("answers", []))
    return (str(row["id"]), row["media"], texts[0], answers, *texts[1:])


def _without_controls(row: dict[str, Any]) -> dict[str, Any]:
    """The row without characters that the format of CSV cannot keep apart."""

    def clean(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, list):
            return [clean(one) for one in value]
        if isinstance(value, str):
            return "".join(one if one.isprintable() else "-" for one in value)
        return value

    return {name: clean(value) for name, value in row.items()}
