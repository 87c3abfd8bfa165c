"""Small encoders and images for the tests of extraction."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.cache.store import Store
from epalm.errors import MediaError
from epalm.extract import cli
from epalm.extract.decoding.sample_loader import Loader
from epalm.tasks.types import MediaItem, Modality

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
REAL_WEIGHTS = SHARED / "models/vit-ti16-tinyimagenet/model.safetensors"
REAL_PHOTOS = SHARED / "data/flickr8k/images"

TINY = "timm:test_vit"
"""timm's own test architecture: 6 blocks, width 64, input 160 x 160."""


def random_model(architecture: str, *, num_classes: int = 0, seed: int = 0) -> nn.Module:
    """timm's model with random weights that are large enough for every block to matter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = timm.create_model(architecture, num_classes=num_classes)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.05)
    return model.eval()


def save_weights(model: nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


def noise(width: int, height: int, *, seed: int = 0, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save_photo(path: Path, *, width: int = 50, height: int = 40, seed: int = 0) -> Path:
    Image.fromarray(noise(width, height, seed=seed)).save(path)
    return path


class CountingEncoder:
    """An encoder whose features give the sample, view and block that they come from.

    Token p of block b = 100 * number in the file's name + 10 * view + b + p / 4, in every
    dimension.
    """

    name = "counting"
    width = 4
    depth = 7
    positions = 3
    modality: Modality = "image"
    norm = nn.Identity()

    def __init__(self, *, interrupt_after: int | None = None) -> None:
        self.load: Loader = load_number
        self.batch_sizes: list[int] = []
        self.interrupt_after = interrupt_after

    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        if len(self.batch_sizes) == self.interrupt_after:
            raise KeyboardInterrupt
        self.batch_sizes.append(len(batch))
        places = torch.arange(positions)[:, None] / 4
        every = range(self.depth) if layers is None else layers
        return [(batch + block).repeat(1, positions, 4) + places for block in every]

    def fingerprint(self) -> dict[str, str]:
        return {"code": "test"}


def load_number(item: MediaItem, view: int) -> torch.Tensor:
    """(1, 1) the value of block 0."""
    if item.path.stem == "broken":
        raise MediaError(f"{item.key}: broken on purpose")
    if item.path.stem == "killer":
        os._exit(9)
    return torch.full((1, 1), 100.0 * int(item.path.stem) + 10.0 * view)


def numbered(count: int, *, broken: Sequence[int] = ()) -> list[MediaItem]:
    names = ["broken" if row in broken else str(row) for row in range(count)]
    return [MediaItem(f"k{row}", Path(), f"{name}.png") for row, name in enumerate(names)]


def counting_store(
    path: Path, items: Sequence[MediaItem], *, views: int = 1, positions: int = 1
) -> Store:
    """A store for `CountingEncoder`, 64 rows a shard."""
    spec = StoreSpec(
        dataset="numbers",
        encoder="counting",
        fingerprint={"code": "test"},
        layers=tuple(range(1, 7)),
        width=4,
        count=len(items),
        views=views,
        positions=positions,
        shard_rows=64,
    )
    return create_store(path, spec, [item.key for item in items])


def tree_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


class Outcome(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


def run_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> Outcome:
    """Run `epalm-extract` with these arguments in this process."""
    monkeypatch.setattr(sys, "argv", ["epalm-extract", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return Outcome(int(ended.value.code or 0), *capsys.readouterr())
