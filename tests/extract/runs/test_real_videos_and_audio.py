"""Real videos and audio clips: the command encodes every one of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.extract.encoders.tiny_encoders import make_tiny
from tests.extract.helpers import SHARED, run_command

DATA = SHARED / "data"

SETS = {
    "msvd_clips": ("timesformer-b", 11),
    "msvd_clips over frames": ("timm over clips", 11),
    "audiocaps_clips/video.jsonl": ("timesformer-b", 5),
    "audiocaps_clips/video.jsonl, its sound": ("ast", 5),
    "audiocaps_clips/audio.jsonl": ("ast", 7),
    "esc10": ("ast", 320),
}
"""Dataset -> tiny encoder and number of samples."""


@pytest.mark.skipif(not DATA.is_dir(), reason="needs real clips and recordings in ../shared/data")
@pytest.mark.parametrize("case", SETS)
def test_all_samples_of_a_real_data_set_are_encoded(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, count = SETS[case]
    tiny = make_tiny(encoder, tmp_path / "weights")
    pooled = ["--frames-pool", "mean"] if tiny.pooled else []
    done = run_command(
        monkeypatch,
        capsys,
        *("--encoder", tiny.name, "--weights", tiny.settings.weights, *pooled),
        *("--preprocessing", "paper"),
        *("--dataset", DATA / case.split(",")[0].split(" ")[0], "--out", tmp_path / "s.zarr"),
        *("--json", "--quiet"),
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["failed"] == 0
    cls = zarr.open_group(tmp_path / "s.zarr", mode="r")["cls"]
    assert isinstance(cls, zarr.Array)
    vectors = np.asarray(cls[:], dtype=np.float32)
    assert vectors.shape[:3] == (count, 1, 6)
    assert np.isfinite(vectors).all()
    different = len(np.unique(vectors.reshape(count, -1), axis=0))
    assert different >= 0.95 * count, "of ESC-10 some begin with silence"
