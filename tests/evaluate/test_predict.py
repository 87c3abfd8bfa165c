"""Questions that the model has no room for."""

import json
import re
from pathlib import Path

import pytest

from epalm.errors import ModelError
from epalm.evaluate.protocol import Protocol
from epalm.evaluate.session import Request, evaluate
from tests.evaluate.helpers import TinyRun, make_run


@pytest.fixture
def tiny(tmp_path: Path) -> TinyRun:
    return make_run(tmp_path)


def ask_at_length(tiny: TinyRun, words: int) -> str:
    """Make the third question one of so many words; its id."""
    file = tiny.data / "val.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[2]["prompt"] = " ".join(["what"] * words)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(lines[2]["id"])


def test_a_question_that_leaves_no_room_for_the_answer_is_named(tiny: TinyRun) -> None:
    asked = ask_at_length(tiny, 29)
    wanted = f"example '{asked}' has 30 tokens of prompt and 3 of answer (max_new_tokens)"
    with pytest.raises(ModelError, match=re.escape(wanted)):
        evaluate(Request(tiny.folder, "val", quiet=True))


def test_an_answer_of_a_list_for_which_there_is_no_room_is_named(
    tiny: TinyRun, tmp_path: Path
) -> None:
    listed = tmp_path / "answers.txt"
    listed.write_text("lamp\nred cup on the desk\n")
    ask_at_length(tiny, 27)
    words = r"28 tokens of prompt and 5 of answer \('red cup on the desk', the list's longest\)"
    with pytest.raises(ModelError, match=rf"{words}.*, or leave that answer out"):
        evaluate(Request(tiny.folder, "val", quiet=True, protocol=Protocol(answers=str(listed))))
