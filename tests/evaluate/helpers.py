"""A tiny run on disk, and evaluations made by hand."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from epalm.cache.create_store import create_store
from epalm.cache.spec import StoreSpec
from epalm.evaluate import cli
from epalm.evaluate.scores.eval_results import Evaluation, PredictionRecord, Score
from epalm.metrics.intervals import GroupMean
from epalm.model.build import build_model
from epalm.model.checkpoints.adapter_io import save_adapter
from epalm.model.checkpoints.run_record import ADAPTER_FILE, RunRecord
from epalm.model.engine.language_model import weights_digest
from epalm.model.method.model_settings import Decoding, ModelSettings
from epalm.tasks.types import Example
from tests.fakes import save_language_model

WORDS = ("what", "is", "on", "the", "desk", "wall", "lamp", "cup", "red", "how", "many", "two")
COLORS = {"a.png": "red", "b.png": "blue", "c.png": "green", "d.png": "white"}
BROKEN = "d.png"
"""The medium whose row in the store is invalid."""


@dataclass(frozen=True)
class TinyRun:
    """Paths of a run and what it needs."""

    folder: Path
    data: Path
    store: Path


def make_run(root: Path, *, name: str = "tiny", precision: str = "fp32") -> TinyRun:
    """A run over four pictures, one of which could not be encoded, with six questions."""
    data = _write_manifest(root / "data")
    store = root / "tiny.zarr"
    if not store.exists():
        _write_store(store, data)
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    settings = ModelSettings(
        lm=str(save_language_model(root / "lm", WORDS)),
        precision=precision,
        variant="full",
        encoder_width=8,
        cached=2,
        prompt_length=2,
        inject="1:3",
        tail="causal",
        lm_dropout=0.0,
        template="{prompt} {answer}",
        supervise="answer",
    )
    torch.manual_seed(7)
    model, _ = build_model(settings)
    with torch.no_grad():
        for weight in model.connectors.parameters():
            weight.mul_(20)  # so that what was seen changes what is said
    save_adapter(model, folder / ADAPTER_FILE)
    RunRecord(
        name=name,
        task="manifest",
        recipe="small",
        model=settings,
        decoding=Decoding(max_new_tokens=3),
        features=str(store),
        store=store_spec().comparable(),
        data_root=str(data),
        seed=5,
        blind=False,
        lm_digest=weights_digest(model.language_model),
        trained=1000,
        frozen=99_000,
    ).save(folder)
    lines = [{"kind": "train", "step": 1, "epoch": 0.5, "loss": 2.0}]
    lines.append({"kind": "val", "step": 2, "epoch": 1, "exact_match": 0.25})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.toml").write_text("epochs = 4\nbatch_size = 16\nlr = 1e-3\n")
    return TinyRun(folder, data, store)


def store_spec() -> StoreSpec:
    return StoreSpec(
        dataset="data",
        encoder="tiny-vit",
        fingerprint={"weights": "12345678", "preprocessing": "native"},
        layers=(0, 1),
        width=8,
        count=len(COLORS),
        tasks=("manifest",),
    )


def evaluation(run: str = "full", *, answers: int = 6, text: str = "lamp") -> Evaluation:
    """An evaluation of `answers` questions; every second answer is right."""
    answered = tuple(
        PredictionRecord(
            id=f"q{row}",
            key=list(COLORS)[row % len(COLORS)],
            prompt="what is on the desk?",
            prediction=text,
            references=("lamp", "lamp", "cup"),
            scores={"exact_match": float(row % 2)},
            question_type="what is",
            log_probability=-0.5,
            tokens=2,
        )
        for row in range(answers)
    )
    return Evaluation(
        run=run,
        task="manifest",
        kind="qa",
        split="val",
        blind=False,
        headline="exact_match",
        scores={"exact_match": Score(0.5, 0.25, 0.75), "other": Score(0.125)},
        breakdowns={"question type": (GroupMean("what is", 0.5, answers),)},
        settings={"recipe": "small", "seed": "0"},
        fingerprint={"encoder": "tiny-vit", "dataset": "data"},
        skipped=("q99",),
        seconds=1.5,
        predictions=answered,
        split_size=answers + 1,
    )


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["epalm-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert isinstance(caught.value.code, int)
    return caught.value.code


def _write_manifest(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, color in COLORS.items():
        Image.new("RGB", (32, 24), color).save(folder / name)
    questions = [
        {"id": "q1", "media": "a.png", "prompt": "what is on the desk"},
        {"id": "q2", "media": "b.png", "prompt": "what is on the wall", "question_type": "what"},
        {"id": "q3", "media": "c.png", "prompt": "how many", "question_type": "how many"},
        {"id": "q4", "media": BROKEN, "prompt": "how many", "question_type": "how many"},
        {"id": "q5", "media": "a.png", "prompt": "what is red", "question_type": "what"},
        {"id": "q6", "media": "b.png", "prompt": "what", "question_type": "what"},
    ]
    lines = [json.dumps(question | {"answers": ["lamp"]}) + "\n" for question in questions]
    (folder / "val.jsonl").write_text("".join(lines))
    (folder / "train.jsonl").write_text(lines[0])
    return folder


def _write_store(path: Path, data: Path) -> None:
    sink = create_store(path, store_spec(), list(COLORS))
    tokens = np.random.default_rng(0).normal(size=sink.spec.shape).astype(np.float16)
    row = list(COLORS).index(BROKEN)
    tokens[row] = np.nan
    sink.write_shard(0, tokens, {BROKEN: "cannot be decoded"})
    sink.finish()


def answered(*answers: str, weights: tuple[float, ...] = ()) -> Example:
    """A training example that has these answers."""
    return Example("k", "q", "what", answers, answers, weights)
