"""`bench.generation`: its reference generates the same ids as epalm, and it runs."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench import generation
from bench.generation import (
    PromptBatch,
    cached,
    draw_answers,
    make_model,
    make_peaked,
    ranked,
    recompute,
)
from bench.support.vqa_workload import SHAPES, Shape, random_lm, random_model
from epalm.model.epalm import EPALM
from epalm.model.generation import ranking
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.method.model_settings import Decoding

pytestmark = pytest.mark.filterwarnings("ignore:A decoder-only architecture")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", Shape(layers=8, width=64, heads=2))


@pytest.mark.parametrize("beams", [1, 3])
def test_the_reference_generates_the_same_ids_as_epalm(beams: int) -> None:
    lm = random_lm(SHAPES["tiny"], "fp32", words=61, device="cpu")
    lm.config.eos_token_id = None
    for weight in lm.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    model = random_model(lm, "full", tail="official").eval()
    asked, decoding = PromptBatch.draw(3, 61, (9, 9)), Decoding(4, beams)
    actual = recompute(generation.recomputing(model), asked, decoding)
    assert actual.tolist() == cached(model, asked, decoding).tolist()
    assert len(set(map(tuple, actual.tolist()))) > 1


def test_prompts_of_different_lengths_are_padded_on_the_left_and_on_the_right() -> None:
    asked = PromptBatch.draw(20, 61, (3, 6))
    lengths = asked.left[1].sum(1)
    assert set(lengths.tolist()) <= {3, 4, 5, 6}
    for row, length in enumerate(lengths.tolist()):
        assert asked.left[0][row, 6 - length :].tolist() == asked.right[0][row, :length].tolist()
        assert asked.left[1][row].tolist() == [0] * (6 - length) + [1] * length
        assert asked.right[1][row].tolist() == [1] * length + [0] * (6 - length)


def test_a_peaked_distribution_needs_fewer_candidate_answers_than_a_flat_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows: list[int] = []

    def counted(model: EPALM, cache: PrefixCache, ids: Tensor) -> Tensor:
        rows.append(len(ids))
        return extend_cache(model, cache, ids)

    extend_cache = ranking.extend_cache
    monkeypatch.setattr(ranking, "extend_cache", counted)
    answers, asked = draw_answers(60, 300), PromptBatch.draw(4, 300, (3, 6))
    model = make_model("tiny", "fp32", 300)
    assert len(ranked(model, asked, answers)) == 4
    unsure = sum(rows)
    rows.clear()
    make_peaked(model)
    assert len(ranked(model, asked, answers)) == 4
    assert sum(rows) < unsure / 2


def test_every_method_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    generation.main("fp32", 2, 2, 2, 5, 2, "tiny", 300, 1, file)
    lines = {line["what"]: line for line in json.loads(file.read_text())["lines"]}
    assert len(lines) == 10
    assert lines["greedy, batch 2: ours"]["cpu_ratio"]["median"] > 0
    assert lines["3 beams, batch 2: ours, 12 tokens each"]["cpu_ratio"]["median"] > 0
    assert lines["peaked distribution, batch 2: ranking 5"]["cpu_ratio"]["median"] > 0
