"""run.json may come from anywhere: every invalid value is reported in one error."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from epalm.errors import MalformedFileError
from epalm.model.checkpoints.run_record import RECORD_FILE, RunRecord
from tests.records import RECORD


def load(folder: Path, fields: object) -> RunRecord:
    (folder / RECORD_FILE).write_text(json.dumps(fields))
    return RunRecord.load(folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ((), 5, "run.json is 5, expected an object"),
        ((), [], r"run.json is \[\], expected an object"),
        (("model",), 5, "model is 5, expected an object"),
        (("model",), None, "model is null, expected an object"),
        (("decoding",), "greedy", "decoding is .greedy., expected an object"),
        (("decoding", "num_beams"), "3", "num_beams is .3., expected a whole number"),
        (("decoding", "num_beams"), True, "num_beams is true, expected a whole number"),
        (("decoding", "num_beams"), 10**6, "num_beams is 1000000, expected at most 1,000"),
        (("model", "encoder_width"), -8, "encoder_width is -8, expected 1 or more"),
        (("model", "prompt_length"), 10**12, "prompt_length is 10+, expected at most 65,536"),
        (("model", "blocks"), 5, r"blocks is 5, expected a list"),
        (("model", "blocks"), ["0"], r"blocks\[0\] is .0., expected a whole number"),
        (("model", "tail"), "other", "tail is .other., expected 'causal' or 'official'"),
        (("model", "tail"), ["causal"], r"tail is \[.causal.\], expected 'causal'"),
        (("model", "lm"), {"a": 1}, "lm is {.a.: 1}, expected a text"),
        (("store",), [], r"store is \[\], expected an object"),
        (("store", "encoder"), 3, "store.encoder is 3, expected a text"),
        (("seed",), "0" * 500, "seed is .0+ \\.\\.\\., expected a whole number"),
        (("blind",), 1, "blind is 1, expected true or false"),
        (("order",), "none", "order is .none., expected 'uniform' or 'blocks'"),
    ],
)
def test_an_invalid_value_is_named(
    tmp_path: Path, path: tuple[str, ...], value: object, message: str
) -> None:
    fields: Any = asdict(RECORD)
    if path:
        inner = fields
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
    with pytest.raises(MalformedFileError, match=f"run.json is not a run record .*{message}"):
        load(tmp_path, fields if path else value)


@pytest.mark.parametrize(
    "text", ["", "{", "\x00", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", '"\ud800"']
)
def test_a_file_that_is_not_json_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text, errors="surrogatepass")
    with pytest.raises(MalformedFileError, match=r"run\.json is not a run record"):
        RunRecord.load(tmp_path)


@pytest.mark.parametrize("absent", ["order", "pool_blocks", "examples", "window_shards"])
def test_a_record_of_an_earlier_version_loads(tmp_path: Path, absent: str) -> None:
    fields: Any = asdict(RECORD)
    del fields[absent], fields["model"]["blocks"], fields["decoding"]["seed"]
    fields["model"]["lm_dropout"] = 0
    fields["of a later version"] = 1
    assert load(tmp_path, fields) == RECORD
