"""A folder of broken files: each is encoded or listed with its reason, and the run continues."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.extract.encoders.tiny_encoders import make_tiny
from tests.extract.helpers import run_command
from tests.media.file_writers import broken_files
from tests.media.file_writers.broken_files import DECODED, FolderWriter

SECONDS = 60
"""What a whole folder may take on a slow machine: far below the limit of a single file that hangs
three times over."""

CASES: dict[str, tuple[str, FolderWriter]] = {
    "photos": ("timm", broken_files.images),
    "clips": ("timesformer-b", broken_files.videos),
    "recordings": ("ast", broken_files.audio_clips),
}


@pytest.mark.parametrize("kind", CASES)
def test_every_broken_file_ends_right_or_is_listed_with_its_reason(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case, make = CASES[kind]
    (tmp_path / "media").mkdir()
    (tmp_path / "weights").mkdir()
    outcomes = make(tmp_path / "media")
    assert len(outcomes) >= 25
    lines = [json.dumps({"id": name, "media": name, "answers": ["a"]}) for name in sorted(outcomes)]
    (tmp_path / "media/train.jsonl").write_text("\n".join(lines))
    tiny = make_tiny(case, tmp_path / "weights")
    store = tmp_path / "a.zarr"
    words = [
        "--encoder",
        tiny.name,
        "--preprocessing",
        "paper",
        "--weights",
        tiny.settings.weights,
        "--out",
        store,
    ]
    words += ["--dataset", tmp_path / "media", "--workers", 2, "--batch-size", 7, "--quiet"]
    words += ["--allow-outside"]  # for the links to a device and to nowhere
    started = time.monotonic()
    done = run_command(monkeypatch, capsys, *words)
    assert time.monotonic() - started < SECONDS
    assert done.code == 3
    lines = (store / "epalm/errors.jsonl").read_text().splitlines()
    errors = {actual["key"]: actual["error"] for actual in map(json.loads, lines)}
    wrong = {
        name: errors.get(name, "encoded")
        for name, outcome in outcomes.items()
        if (name in errors) != (outcome != DECODED) or not re.search(outcome, errors.get(name, ""))
    }
    assert wrong == {}
    opened = zarr.open_group(store, mode="r")
    for key, row in zip(opened["keys"][:], np.asarray(opened["cls"][:]), strict=True):
        assert np.isnan(row).all() if str(key) in errors else np.isfinite(row).all()
