"""What the demo's modalities name exists, also where it is code that only the demo may name."""

from pathlib import Path

import pytest

from epalm.demo.modalities import MODALITIES, DemoModality
from epalm.errors import UsageError
from epalm.tasks.task_registry import load_task


def manifest_of(folder: Path) -> Path:
    for split in ("train", "val", "test"):
        line = f'{{"id": "{split}", "media": "a.wav", "answers": ["a high note"]}}\n'
        (folder / f"{split}.jsonl").write_text(line)
    return folder


@pytest.mark.parametrize("modality", MODALITIES.values(), ids=list(MODALITIES))
def test_the_task_of_each_modality_loads(modality: DemoModality, tmp_path: Path) -> None:
    assert load_task(modality.task, manifest_of(tmp_path)).name == modality.task


def test_the_task_of_audio_clips_is_refused_where_a_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names are never imported"):
        load_task(str(MODALITIES["audio"].task), manifest_of(tmp_path))
