"""Runs of the demo on a few samples: its bundled models, and a few steps of training."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from epalm.demo.demo_dataset import SplitSizes
from epalm.demo.modalities import MODALITIES
from epalm.demo.stages import (
    RUNS,
    DemoFolder,
    evaluate_run,
    extract_features,
    train_run,
    write_data,
)

MADE_FOLDERS: list[Path] = []
"""Folders of the runs that this process has made, to be deleted at its end."""

SIZES = SplitSizes(train=16, val=4, test=6)


@dataclass(frozen=True)
class SmallRun:
    """A trained and evaluated run.

    Attributes:
        folder: folder of the demo.
        run: folder of the run.
        predictions: the lines of its predictions.jsonl.
    """

    folder: DemoFolder
    run: Path
    predictions: list[dict[str, Any]]

    def file(self, prediction: dict[str, Any]) -> Path:
        """The sample of a prediction."""
        return self.folder.data / prediction["key"]


@cache
def small_run(modality: str = "image") -> SmallRun:
    """A run of each modality, made once for all tests of a process."""
    small = replace(MODALITIES[modality], sizes=SIZES)
    MADE_FOLDERS.append(Path(mkdtemp(prefix="epalm-small-run-")))
    folder = DemoFolder(small, MADE_FOLDERS[-1], quiet=True)
    full = RUNS[-1]
    write_data(folder)
    extract_features(folder)
    train_run(folder, full)
    evaluate_run(folder, full)
    (file,) = folder.run(full).glob("eval/*/predictions.jsonl")
    lines = file.read_text(encoding="utf-8").splitlines()
    return SmallRun(folder, folder.run(full), [json.loads(line) for line in lines])
