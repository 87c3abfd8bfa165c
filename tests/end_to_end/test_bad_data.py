"""Whatever a data file holds, a command that cannot use it ends with one line and no traceback."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from epalm.cache.create_store import create_store
from epalm.evaluate import cli as evaluate_cli
from epalm.extract import cli as extract_cli
from epalm.train import cli as train_cli
from tests.evaluate.helpers import TinyRun, make_run, store_spec

GOOD = {"id": "q0", "media": "a.png", "prompt": "what is on the desk?", "answers": ["lamp"]}


def line(**changed: object) -> str:
    return json.dumps(GOOD | {"id": "q9"} | changed)


LONG = "n" * 300

BAD: dict[str, str | bytes] = {
    "half a pair in an id": line(id="\ud800"),
    "half a pair in a name": line(media="\udc80.png"),
    "half a pair in a prompt": line(prompt="\ud83d?"),
    "half a pair in an answer": line(answers=["lamp", "\ud83d"]),
    "half a pair in a group": line(question_type="\ud83d"),
    "half a pair in a column": line(**{"\ud83d": 1}),
    "NUL in a name": line(media="a\0.png"),
    "nested lists": "[" * 100_000,
    "nested objects": '{"id":' * 100_000,
    "nested just so": line()[:-1] + ', "more": ' + "[" * 900 + "]" * 900 + "}",
    "huge whole number": line()[:-1] + f', "id": {"9" * 5000}}}',
    "1e400": line()[:-1] + ', "prompt": 1e400}',
    "NaN": line()[:-1] + ', "prompt": NaN}',
    "NaN answer": line()[:-1] + ', "answers": [NaN]}',
    "a list": "[]",
    "null": "null",
    "cut off": line()[:-5],
    "no UTF-8": b'{"id": "\xff"}',
    "UTF-16": line().encode("utf-16"),
    "zeros": b"\0" * 1000,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xd8",
    "name of 300 characters": line(media=LONG + ".png"),
    "path of 100,000 characters": line(media="d/" * 50_000 + "a.png"),
    "absolute name": line(media="/etc/passwd.png"),
    "name outside": line(media="../../../../etc/a.png"),
    "another kind": line(prompt=""),
    "no answers": line(answers=[]),
    "id twice": line(id="q0"),
}

COMMANDS: dict[str, Callable[[], None]] = {
    "epalm-extract": extract_cli.main,
    "epalm-train": train_cli.main,
    "epalm-eval": evaluate_cli.main,
}

ACCEPTED = {
    ("epalm-extract", "no answers"),
    ("epalm-extract", "id twice"),
    ("epalm-extract", "name of 300 characters"),
    ("epalm-extract", "path of 100,000 characters"),
    ("epalm-eval", "no answers"),
}
"""Of no concern to a command: extraction needs neither answers nor distinct ids, and what cannot be
opened is one of its failed records."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return make_run(tmp_path_factory.mktemp("bad"))


def words(command: str, run: TinyRun, out: Path) -> list[str]:
    root = str(run.data)
    if command == "epalm-extract":
        return ["--encoder", "vit-ti16", "--dataset", root, "--out", str(out / "new.zarr")]
    if command == "epalm-train":
        options = ["--features", str(run.store), "--data-root", root, "--out", str(out / "runs")]
        return [*options, "--lm", str(run.folder.parent.parent / "lm"), "--recipe", "small"]
    return ["--run", str(run.folder), "--split", "train", "--data-root", root]


@pytest.mark.parametrize(
    ("command", "bad"),
    [(command, bad) for command in COMMANDS for bad in BAD if (command, bad) not in ACCEPTED],
)
def test_a_command_ends_with_one_line(
    tiny: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    *,
    command: str,
    bad: str,
) -> None:
    content = BAD[bad]
    data = content if isinstance(content, bytes) else content.encode()
    (tiny.data / "train.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n" + data + b"\n")
    monkeypatch.setattr(sys, "argv", [command, "--quiet", *words(command, tiny, tmp_path)])
    with pytest.raises(SystemExit) as ended:
        COMMANDS[command]()
    out, err = capfd.readouterr()
    assert ended.value.code in {1, 2}
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in out + err


@pytest.mark.parametrize("command", ["epalm-extract", "epalm-train"])
def test_a_name_derived_from_a_long_one_is_refused_with_the_option_that_names_it(
    tiny: TinyRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ("d" * 250)
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps(GOOD))
    (folder / "a.png").touch()
    arguments = ["--encoder", "vit-ti16", "--dataset", str(folder)]
    if command == "epalm-train":
        spec = replace(store_spec(), dataset=folder.name, count=1)
        create_store("long.zarr", spec, ["a.png"])
        arguments = ["--features", "long.zarr", "--data-root", str(folder)]
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    with pytest.raises(SystemExit) as ended:
        COMMANDS[command]()
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert ended.value.code == 2
    assert line.startswith("error: ")
    assert "give a shorter" in line
    assert ("--out" if command == "epalm-extract" else "--name") in line
