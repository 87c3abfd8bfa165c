"""Tokens that are reported while answers are generated."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from epalm.model.build import build_model
from epalm.model.generation.batched_generation import Answer, Generator, Questions, answer_questions
from epalm.model.generation.token_watch import TokenStep, TokenWatch
from epalm.model.method.model_settings import Decoding, ModelSettings
from tests.fakes import save_language_model

WORDS = ("what", "is", "on", "the", "desk", "wall", "lamp", "cup")
PROMPTS = ["what is on the desk", "what is on the wall", "what"]


@pytest.mark.parametrize("decoding", [Decoding(4), Decoding(4, do_sample=True, seed=3)], ids=str)
def test_the_tokens_reported_are_those_of_the_answers(decoding: Decoding, tmp_path: Path) -> None:
    lm = str(save_language_model(tmp_path / "lm", WORDS))
    torch.manual_seed(0)
    model, text = build_model(
        ModelSettings(
            *(lm, "fp32", "full", 8, 2, 2, "1:3", "causal", 0.0),
            template="{prompt} {answer}",
            supervise="answer",
        )
    )
    features = torch.randn(3, 2, 8)
    seen: dict[str, list[TokenStep]] = {}

    def watch(names: Sequence[str]) -> TokenWatch:
        return TokenWatch(
            text.ends, lambda row, step: seen.setdefault(names[row], []).append(step), top=2
        )

    def answers(strategy: Generator) -> list[Answer]:
        questions = Questions(
            PROMPTS, ["1", "2", "3"], ["a", "b", "c"], lambda rows: features[rows]
        )
        return list(
            answer_questions(
                model, text, questions, strategy, batch_size=8, on_batch=lambda _: None
            )
        )

    watched = answers(Generator(text, decoding, watch))
    assert watched == answers(Generator(text, decoding))
    for answer, key, prompt in zip(watched, "abc", PROMPTS, strict=True):
        steps = seen[f"{key}\n{prompt}"]
        ids = torch.tensor([[step.token for step in steps]])
        assert text.decode(ids) == [answer.text]
        assert len(steps) == answer.tokens
        total = sum(step.log_probability for step in steps)
        assert math.isclose(total, answer.log_probability, abs_tol=1e-5)
        assert [step.is_last for step in steps[:-1]] == [False] * (len(steps) - 1)
        for step in steps:
            (first, best), (_, second) = step.top
            assert best >= second
            if not decoding.do_sample:
                assert (first, best) == (step.token, step.log_probability)
