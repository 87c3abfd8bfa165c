"""A world of colored pictures whose stored vectors tell the color."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from tests.fakes import save_language_model

COLORS = ("red", "blue", "green", "white")
TRAIN, VAL = 40, 12
BROKEN = "3.png"
"""A training picture that could not be encoded."""

RECIPE = """
lm = "{lm}"
lm_precision = "fp32"
variant = "full"
prompt_length = 2
inject = "1:3"
qa_template = "{{prompt}} {{answer}}"
caption_template = "{{answer}}"
supervise = "answer"
normalize = "token"
epochs = {epochs}
batch_size = 4
lr = 0.01
lm_dropout = 0.1
max_new_tokens = 2

[schedule]
kind = "cosine"
warmup_lr = 0.0
warmup_steps = 5
min_lr = 0.001
"""


@dataclass(frozen=True)
class World:
    """Paths of everything a training run needs; the store's may be a URL."""

    root: Path
    data: Path
    store: str | Path
    recipe: Path


def make_world(root: Path, *, epochs: int = 2) -> World:
    """Manifest, store, language model and recipe under `root`."""
    data = root / "data"
    data.mkdir()
    for split, numbers in (("train", range(TRAIN)), ("val", range(TRAIN, TRAIN + VAL))):
        lines = [
            {
                "id": f"q{number}",
                "media": f"{number}.png",
                "prompt": "what color",
                "answers": [COLORS[number % 4]],
            }
            for number in numbers
        ]
        (data / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    lm = save_language_model(root / "lm", ["what", "color", *COLORS])
    recipe = root / "recipe.toml"
    recipe.write_text(RECIPE.format(lm=lm, epochs=epochs))
    return World(root, data, _write_store(root / "store.zarr", data), recipe)


def train_command(world: World, *extra: str) -> list[str]:
    """`epalm-train` on the world, as a list of arguments."""
    options = ["--features", world.store, "--recipe", world.recipe, "--out", world.root / "runs"]
    return [*map(str, options), "--name", "run", "--device", "cpu", *extra]


def start(arguments: list[str], before: str = "pass") -> "subprocess.Popen[str]":
    """`epalm-train` in a process of its own; `before` is run in front of it."""
    code = f"{before}; from epalm.train.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def logged(world: World, kind: str, name: str = "run") -> list[dict[str, float]]:
    """The run's metrics lines of a kind, without speeds."""
    text = (world.root / "runs" / name / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("kind", "samples_per_s")}
        for line in lines
        if line["kind"] == kind
    ]


def _write_store(path: Path, data: Path) -> Path:
    spec = StoreSpec(
        dataset="data",
        encoder="tiny-vit",
        fingerprint={"preprocessing.name": "native"},
        layers=(0, 1),
        width=8,
        count=TRAIN + VAL,
        tasks=("manifest",),
        data_root=str(data),
    )
    keys = [f"{number}.png" for number in range(spec.count)]
    sink = create_store(path, spec, keys)
    tokens = np.random.default_rng(0).normal(scale=0.1, size=spec.shape)
    for row in range(spec.count):
        tokens[row, :, :, row % 4] += 2
    sink.write_shard(0, tokens.astype(np.float32), {BROKEN: "cannot be decoded"})
    sink.finish()
    return path
