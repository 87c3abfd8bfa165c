"""The benchmark of manifests: what it reads, and that it stops at the first batch."""

import json
from pathlib import Path

import pytest

from bench import manifests


def test_every_measurement_reads_all_written_lines(tmp_path: Path) -> None:
    manifests.write_manifest(tmp_path / "data", 20, 5)
    folder = str(tmp_path / "data")
    assert manifests.media(folder)["number"] == 5
    assert manifests.examples(folder)["number"] == 20
    assert manifests.load_json(folder)["cpu"] >= 0
    assert manifests.first_batch(folder)["cpu"] > 0


@pytest.mark.slow
def test_readings_are_compared_with_plain_json(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    manifests.main(lines=2000, rounds=1, folder=tmp_path, json=file)
    lines = {line["what"]: line for line in json.loads(file.read_text())["lines"]}
    for what in ("1,000 images", "one image per line"):
        assert lines[f"{what}: media, of json.loads"]["value"] > 0
        assert lines[f"{what}: first batch"]["met"]
