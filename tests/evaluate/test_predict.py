"""Questions that cannot be answered: too long, or about samples of another store."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epalm.cache.create_store import create_store
from epalm.errors import ModelError, UnknownKeyError
from epalm.evaluate.preparation.eval_options import EvalOptions
from epalm.evaluate.run_evaluation import evaluate
from tests.evaluate.helpers import TinyRun, make_run, store_spec


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRun:
    return make_run(tmp_path)


def ask_at_length(tiny: TinyRun, words: int) -> str:
    """Make the third question one with this number of words; return its id."""
    file = tiny.data / "val.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2]["prompt"] = " ".join(["what"] * words)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(lines[2]["id"])


def test_the_error_about_a_too_long_question_names_it(tiny: TinyRun) -> None:
    asked = ask_at_length(tiny, 29)
    expected = f"example '{asked}' has 30 tokens of prompt and 3 of answer (max_new_tokens)"
    with pytest.raises(ModelError, match=re.escape(expected)):
        evaluate(EvalOptions(run=str(tiny.folder), split="val", quiet=True))


def test_the_error_about_a_too_long_ranked_answer_names_it(tiny: TinyRun, tmp_path: Path) -> None:
    listed = tmp_path / "answers.txt"
    listed.write_text("lamp\nred cup on the desk\n")
    ask_at_length(tiny, 27)
    words = r"28 tokens of prompt and 5 of answer \('red cup on the desk', the list's longest\)"
    with pytest.raises(ModelError, match=rf"{words}.*, or leave that answer out"):
        evaluate(EvalOptions(run=str(tiny.folder), split="val", quiet=True, answers=str(listed)))


def test_a_store_of_another_task_and_a_partial_store_give_different_errors(
    tiny: TinyRun, tmp_path: Path
) -> None:
    spec = replace(store_spec(), dataset="msvd", tasks=("msvd-qa",), count=2)
    store = create_store(tmp_path / "msvd.zarr", spec, ["a.avi", "b.avi"])
    store.write_shard(0, np.ones(spec.shape, np.float16), {})
    store.finish()
    words = r"msvd.zarr \(msvd, 2 samples\) has no features for .* of task manifest; .*'a.avi'"
    with pytest.raises(UnknownKeyError, match=rf"{words}.*, or choose .* with --task msvd-qa$"):
        evaluate(
            EvalOptions(
                run=str(tiny.folder), split="val", features=[str(store.location)], quiet=True
            )
        )
