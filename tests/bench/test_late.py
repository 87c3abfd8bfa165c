"""`bench.late` compares the late variants with `full` in both layouts."""

import json
from pathlib import Path

import pytest

from bench import late
from bench.support import vqa_workload


def test_late_variants_need_fewer_operations_than_full_in_every_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vqa_workload.SHAPES, "tiny", vqa_workload.Shape(8, 16, 2))
    file = tmp_path / "result.json"
    late.main(shape="tiny", batch_size=10, steps=1, words=60, rounds=2, folder=tmp_path, json=file)
    lines = {line["what"]: line for line in json.loads(file.read_text())["lines"]}
    for group in late.LAYOUTS:
        counts = [
            lines[f"{variant}, {group}: operations"]["value"]
            for variant in ("late-deep", "late", "full")
        ]
        assert counts == sorted(counts)
        assert counts[0] < counts[1] < counts[2]
        assert lines[f"late, {group}"]["ratio"]["median"] > 0
