"""The benchmark of training steps: that its reference is the released step, never how fast."""

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
    """Five questions of unlike length about three pictures."""
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
    found, wanted = gradients(model, ours), gradients(model, theirs)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 1e-6
        assert torch.allclose(found[name], gradient, atol=1e-5, rtol=1e-5), name


def test_ways_are_compared_with_the_released_step_on_vectors_and_on_pictures(
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


def test_hours_on_a_gpu_are_those_of_the_published_training() -> None:
    samples = {training.MULTIPLY: [Sample(1e9, 1.0, 1.0)], "way": [Sample(1000, 2.0, 1.0)]}
    *_, speed, hours = training.reached_lines(samples, {"way": 1_000_000}, "cuda")
    assert speed.value == pytest.approx(0.5)
    assert speed.ratio and speed.ratio.median == pytest.approx(0.5)
    assert hours.value == pytest.approx(605_102 * 8 / 500 / 3600)


def test_arrangements_change_who_shares_a_batch_and_nothing_else() -> None:
    asked = vqa_workload.Questions(words=100, batch_size=10, steps=3, device="cpu")

    def texts(arrangement: vqa_workload.Arrangement) -> list[list[int]]:
        rows = [row for step in asked.batches(4, arrangement) for row in step.batch.input_ids]
        return sorted([int(word) for word in row if word != vqa_workload.PAD] for row in rows)

    plain = vqa_workload.Arrangement()
    grouped = vqa_workload.Arrangement(5, buckets=True, supervise="answer")
    assert texts(plain) == texts(grouped)
    assert [len(step.batch.features) for step in asked.batches(4, plain)] == [10, 10, 10]
    assert [len(step.batch.features) for step in asked.batches(4, grouped)] == [2, 2, 2]
    for padded, cut in zip(asked.batches(4, plain), asked.batches(4, grouped), strict=True):
        assert (padded.batch.labels != -100).sum() > (cut.batch.labels != -100).sum()


def test_texts_are_as_long_as_the_published_ones() -> None:
    asked = vqa_workload.Questions(words=100, batch_size=2000, steps=1, device="cpu")
    lengths = asked.batches(0, vqa_workload.Arrangement())[0].batch.attention_mask.sum(1)
    assert lengths.float().mean() == pytest.approx(13.4, abs=0.15)
    assert lengths.min() >= 11
    assert lengths.max() <= 22


def test_products_count_alike_with_rearranged_weights_and_less_with_kept_texts(
    tmp_path: Path,
) -> None:
    lm = vqa_workload.random_lm(vqa_workload.Shape(8, 16, 2), "fp32", words=40, device="cpu")
    asked = vqa_workload.Questions(words=40, batch_size=2, steps=1, device="cpu")
    stepper = step_variants.Stepper(asked)
    made = {way.name: way for way in step_variants.ways(lm, asked.texts(0), tmp_path)}
    ends = ("ours", "ours, plain weights", "ours, texts kept", "official, cached")
    counted = {f"lin: {end}": stepper.flops(made[f"lin: {end}"]) for end in ends}
    assert counted["lin: ours"] == counted["lin: ours, plain weights"]
    assert 0 < counted["lin: ours, texts kept"] < counted["lin: ours"]
    assert counted["lin: ours"] < counted["lin: official, cached"]


def test_a_way_that_does_not_exist_is_refused_by_name() -> None:
    asked = [step_variants.Way("full: ours", "full: official", torch.abs, [])]
    with pytest.raises(UsageError, match=r"'ful: \*' is none of: full: ours"):
        training.chosen(asked, ["ful: *"])
