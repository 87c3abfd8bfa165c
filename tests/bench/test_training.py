"""`bench.training`: its reference computes the same losses and gradients as epalm."""

import json
from pathlib import Path

import pytest
import torch

from bench import training
from bench.support import step_variants, vqa_workload
from bench.support.official_step import OfficialModel
from bench.support.timed_rounds import Sample
from epalm.errors import UsageError
from epalm.model.engine.model_batch import Batch, collate_texts
from epalm.model.epalm import EPALM, trainable_parameters
from tests.model.helpers import tiny_opt, tiny_variant


def questions() -> Batch:
    """Five questions of different lengths about three images."""
    random = torch.Generator().manual_seed(3)
    lengths = [(3, 2), (6, 1), (2, 1), (4, 4), (1, 2)]
    texts = [
        (
            [2, *torch.randint(4, 60, (head,), generator=random).tolist()],
            [*torch.randint(4, 60, (tail,), generator=random).tolist(), 2],
        )
        for head, tail in lengths
    ]
    pictures = torch.tensor([0, 1, 1, 2, 0])
    tokens = torch.randn(3, 3, 8, generator=random)
    return Batch(tokens, *collate_texts(texts, supervise="all", pad=1), pictures)


def gradients(model: EPALM, losses: torch.Tensor) -> dict[str, torch.Tensor]:
    names, weights = zip(*trainable_parameters(model), strict=True)
    return dict(zip(names, torch.autograd.grad(losses.mean(), weights), strict=True))


@pytest.mark.parametrize("norm", ["pre-LN", "post-LN"])
@pytest.mark.parametrize("variant", ["full", "pt-light", "lin", "limber"])
def test_the_reference_step_has_our_losses_and_gradients(variant: str, norm: str) -> None:
    lm = tiny_opt(layers=9, pre_norm=norm == "pre-LN", projected=norm != "pre-LN")
    model = tiny_variant(lm, variant, cached=3, tail="official")
    batch = questions()
    ours, theirs = model(batch).per_example(), OfficialModel(model)(batch)
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    actual, expected = gradients(model, ours), gradients(model, theirs)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 1e-6
        assert torch.allclose(actual[name], gradient, atol=1e-5, rtol=1e-5), name


def test_methods_are_compared_with_the_official_step_on_cached_features_and_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vqa_workload.SHAPES, "tiny", vqa_workload.Shape(2, 16, 2))
    file = tmp_path / "result.json"
    training.main(
        shape="tiny",
        precision="fp32",
        batch_size=2,
        steps=1,
        only=["lin: ours, buckets"],
        words=40,
        encoder="test_vit",
        rounds=1,
        folder=tmp_path,
        json=file,
    )
    lines = json.loads(file.read_text())["lines"]
    names = [line["what"] for line in lines]
    assert names[0] == "lin: official, cached"
    assert names.count("lin: ours, buckets") == 2
    assert "lin: official, online" in names
    assert not any(name.startswith("full") for name in names)
    assert "lin: ours, buckets: reached" in names
    assert all(line["value"] > 0 for line in lines)
    assert list(tmp_path.iterdir()) == [file]


def test_on_a_gpu_the_hours_of_the_published_training_are_reported() -> None:
    samples = {training.MULTIPLY: [Sample(1e9, 1.0, 1.0)], "way": [Sample(1000, 2.0, 1.0)]}
    *_, speed, hours = training.reached_lines(samples, {"way": 1_000_000}, "cuda")
    assert speed.value == pytest.approx(0.5)
    assert speed.ratio and speed.ratio.median == pytest.approx(0.5)
    assert hours.value == pytest.approx(605_102 * 8 / 500 / 3600)


def test_batch_layouts_change_which_texts_share_a_batch_and_nothing_else() -> None:
    questions = vqa_workload.Questions(words=100, batch_size=10, steps=3, device="cpu")

    def texts(layout: vqa_workload.BatchLayout) -> list[list[int]]:
        rows = [row for step in questions.batches(4, layout) for row in step.batch.input_ids]
        return sorted([int(word) for word in row if word != vqa_workload.PAD] for row in rows)

    plain = vqa_workload.BatchLayout()
    grouped = vqa_workload.BatchLayout(5, buckets=True, supervise="answer")
    assert texts(plain) == texts(grouped)
    assert [len(step.batch.features) for step in questions.batches(4, plain)] == [10, 10, 10]
    assert [len(step.batch.features) for step in questions.batches(4, grouped)] == [2, 2, 2]
    for padded, cut in zip(questions.batches(4, plain), questions.batches(4, grouped), strict=True):
        assert (padded.batch.labels != -100).sum() > (cut.batch.labels != -100).sum()


def test_texts_are_as_long_as_the_published_ones() -> None:
    questions = vqa_workload.Questions(words=100, batch_size=2000, steps=1, device="cpu")
    lengths = questions.batches(0, vqa_workload.BatchLayout())[0].batch.attention_mask.sum(1)
    assert lengths.float().mean() == pytest.approx(13.4, abs=0.15)
    assert lengths.min() >= 11
    assert lengths.max() <= 22


def test_operations_are_the_same_in_onednn_layout_and_fewer_with_cached_text_states(
    tmp_path: Path,
) -> None:
    lm = vqa_workload.random_lm(vqa_workload.Shape(8, 16, 2), "fp32", words=40, device="cpu")
    questions = vqa_workload.Questions(words=40, batch_size=2, steps=1, device="cpu")
    timer = step_variants.StepTimer(questions)
    made = {way.name: way for way in step_variants.step_methods(lm, questions.texts(0), tmp_path)}
    ends = ("ours", "ours, plain layout", "ours, cached text states", "official, cached")
    counted = {f"lin: {end}": timer.flops(made[f"lin: {end}"]) for end in ends}
    assert counted["lin: ours"] == counted["lin: ours, plain layout"]
    assert 0 < counted["lin: ours, cached text states"] < counted["lin: ours"]
    assert counted["lin: ours"] < counted["lin: official, cached"]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    questions = [step_variants.StepMethod("full: ours", "full: official", torch.abs, [])]
    with pytest.raises(UsageError, match=r"'ful: \*' matches none of: full: ours"):
        training.select_methods(questions, ["ful: *"])
