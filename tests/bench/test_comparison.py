"""Every way of `bench.comparison` trains, and all are measured by the same validation loss."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig, OPTForCausalLM

from bench import comparison
from bench.comparison import EXTRACTION, OURS, WAYS, Plan, Training, table
from bench.support.comparison import chart, plain_script, ways
from bench.support.comparison.curves import seconds_to
from bench.support.comparison.ways import Budget, HeldOut
from epalm.model.method.model_settings import Template
from epalm.model.text.text_encoder import TextEncoder
from epalm.train.config.recipe import load_recipe
from tests.fakes import save_language_model

COLORS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


@pytest.fixture(scope="module")
def budget(tmp_path_factory: pytest.TempPathFactory) -> Budget:
    """Twenty-four plain photos, a random ViT-Ti and a random OPT."""
    root = tmp_path_factory.mktemp("comparison")
    (root / "images").mkdir()
    images = []
    for number in range(24):
        color = list(COLORS)[number % 2]
        Image.new("RGB", (32, 32), COLORS[color]).save(root / "images" / f"{number}.png")
        captions = [{"raw": f" a {color} photo ", "sentid": 2 * number + k} for k in range(2)]
        split = "train" if number < 16 else "val"
        images.append({"filename": f"{number}.png", "split": split, "sentences": captions})
    (root / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    save_file(vit.state_dict(), root / "vit.safetensors")
    lm = save_language_model(root / "lm", ["a", "photo", *COLORS], layers=12, width=16)
    config = OPTConfig.from_pretrained(lm, max_position_embeddings=96)
    OPTForCausalLM(config).save_pretrained(lm)
    return Budget(
        *(str(root), str(root / "vit.safetensors"), str(lm), str(root / "store.zarr")),
        steps=8,
        every=2,
        val=8,
        until=0.0,
    )


@pytest.mark.slow
def test_every_way_learns_what_the_captions_say(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_script, "BATCH", 4)
    monkeypatch.setattr(ways, "BATCH", 4)
    plan = Plan(tmp_path, budget)
    plan.extract()
    for name, way in WAYS.items():
        options = [str(tmp_path / "run")] if name == OURS else way.options
        changed = {"lr": 0.1, "steps": 4}
        curve = getattr(ways, way.entry)(asdict(plan.budget) | changed, *options)
        steps, seconds, losses = zip(*curve, strict=True)
        # epalm-train pauses at the end of an epoch of eight steps, or after every tenth one
        assert list(steps) == ([0, 8] if name == OURS else [0, 2, 4]), name
        assert sorted(seconds) == list(seconds), name
        assert losses[-1] < losses[0] - 0.3, name
    assert not plan.file.exists()


def test_the_script_and_the_library_validate_on_the_same_tokens(budget: Budget) -> None:
    tokenizer = AutoTokenizer.from_pretrained(budget.lm)
    held_out = plain_script.Captions(Path(budget.data), "val", tokenizer, lambda image: image)
    lm = AutoModelForCausalLM.from_pretrained(budget.lm).requires_grad_(requires_grad=False)
    template = Template(load_recipe("small").caption_template, "answer")
    text = TextEncoder.create(tokenizer, template, lm.config)
    ours = HeldOut.encoded(budget, text, lambda _: torch.zeros(6, 192))
    (batch,) = ours.batches
    assert [ids.tolist() for ids in batch.input_ids] == held_out.ids
    assert (batch.labels[:, 1:] == batch.input_ids[:, 1:]).all()

    def stock(batch: ways.Batch) -> torch.Tensor:
        logits = lm(batch.input_ids).logits[:, :-1].transpose(1, 2)
        return cross_entropy(logits, batch.labels[:, 1:], reduction="none").sum(1)

    module = torch.nn.Module()
    module.forward = stock  # type: ignore[method-assign]
    expected = lm(batch.input_ids, labels=batch.input_ids).loss
    assert ours.loss(module) == pytest.approx(float(expected), rel=1e-5)
    with_prefix = plain_script.Captioner(_NoViT(), lm, "patches")
    torch.nn.init.zeros_(with_prefix.project.weight)
    rows = (torch.zeros(8, 1, 768), batch.input_ids, batch.attention_mask)
    other = plain_script.validate(with_prefix, [rows, rows])
    assert other == pytest.approx(float(expected), rel=0.2)


class _NoViT(torch.nn.Module):
    num_features = 192


def test_times_are_interpolated_between_validations() -> None:
    curve = [(0, 1.0, 4.0), (10, 3.0, 3.0), (20, 5.0, 3.2), (30, 7.0, 2.2)]
    assert seconds_to(curve, 4.5) == 1.0
    assert seconds_to(curve, 3.25) == 2.5
    assert seconds_to(curve, 2.7) == 6.0
    assert seconds_to(curve, 2.0) == float("inf")


def trainings() -> list[Training]:
    """Two rounds, in which epalm takes 10 and 20 seconds."""
    finished = []
    for number, ours in enumerate((10.0, 20.0)):
        finished.append(Training(EXTRACTION, number, [(0, 90.0, float("nan"))], 0))
        for place, name in enumerate(WAYS):
            seconds = ours if name == OURS else ours * (8 - 2 * place)
            curve = [(0, 0.0, 4.0), (10, seconds, 3.0)]
            finished.append(Training(name, number, curve, 200_000_000))
    return finished


def test_the_table_has_the_ratios_worked_by_hand(tmp_path: Path) -> None:
    lines = {line.what: line for line in table(trainings(), [3.0])}
    official, script = lines["official implementation: to 3"], lines["one-file script: to 3"]
    assert (official.value, str(official.ratio), official.met) == (120.0, "8 (8 to 8)", True)
    assert (script.value, str(script.ratio), script.met) == (90.0, "6 (6 to 6)", True)
    with_extraction = lines["official implementation: to 3 / epalm with extraction"].ratio
    assert with_extraction
    assert with_extraction.median == pytest.approx((80 / 100 + 160 / 110) / 2)
    assert lines["epalm: peak memory"].value == 200
    assert lines["epalm: code"].value == 2
    unreached = {line.what: line for line in table(trainings(), [2.0])}
    assert unreached["one-file script: to 2"].ratio is None
    assert unreached["one-file script: to 2"].met is False
    curves = {name: [one.curve for one in trainings() if one.name == name] for name in WAYS}
    once = [90.0, 90.0]
    chart.draw(tmp_path / "chart.png", curves, 3.0, reference=OURS, before=once)
    assert np.asarray(Image.open(tmp_path / "chart.png")).std() > 5


def test_finished_trainings_are_kept(
    budget: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def train(self: Plan, name: str, number: int) -> Training:
        assert self.budget is budget
        started.append((name, number))
        return next(one for one in trainings() if (one.name, one.round) == (name, number))

    monkeypatch.setattr(comparison.Plan, "train", train)
    plan = Plan(tmp_path, budget)
    plan.run(1)
    assert len(started) == 1 + len(WAYS)
    finished = plan.run(2)
    assert len(started) == len(set(started)) == 2 * (1 + len(WAYS))
    assert {(one.name, one.round) for one in finished} == set(started)
