"""How much faster is text generated behind a cache than by the released code's way?

    OMP_NUM_THREADS=1 python -m bench.generation

Random weights of OPT-125M's shape, prompts as long as VQA's questions, and no end token, so that
every text has all its tokens. The reference reads the whole sequence [visual | prompt | text] anew
for each token, padded on the right to the longest prompt of the batch, with logits at all
positions; a test compares the ids. Besides, the same prompts are answered by ranking a closed list.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

import torch
import typer
from torch import Tensor
from transformers import GenerationConfig, OPTForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from bench.support.official_step import OfficialModel
from bench.support.timed_rounds import (
    JsonFile,
    Line,
    Result,
    Rounds,
    Sample,
    Variant,
    Watch,
    compare,
    interleave,
)
from bench.support.vqa_workload import (
    BEGIN,
    ENCODER_WIDTH,
    FIRST_WORD,
    LONGEST,
    PAD,
    SHAPES,
    SHORTEST,
    VECTORS,
    random_lm,
    random_model,
)
from epalm.model.engine.model_batch import Batch
from epalm.model.engine.onednn_linear import use_onednn_layout
from epalm.model.epalm import EPALM
from epalm.model.generation.decode import generate
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.generation.ranking import AnswerList, rank
from epalm.model.method.model_settings import Decoding

REFERENCE = "released code's way"

TARGET = 5.0
"""Least ratio wanted, greedy at a batch of 64 and three beams at 16, both in bfloat16."""

ANSWER_WORDS = (0.7, 0.2, 0.1)
"""Shares of listed answers of one, two and three words; none of VQA v2's 1000 most frequent answers
is much longer."""


class RecomputingOPT(OPTForCausalLM):
    """Stock OPT whose `generate` reads pictures as the released code does, without a cache.

    Attributes:
        read: the released forward pass up to the head.
    """

    read: Callable[[Batch], Tensor]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        tokens: Tensor | None = None,
        **ignored: Any,  # noqa: ANN401 - what generate passes besides
    ) -> CausalLMOutputWithPast:
        """Logits of all rows [visual | prompt | text]; `generate` leaves out a mask of ones."""
        del ignored
        assert tokens is not None
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        own = torch.arange(len(input_ids), device=input_ids.device)
        states = self.read(Batch(tokens, input_ids, mask, input_ids, own))
        return CausalLMOutputWithPast(logits=self.lm_head(states))


def recomputing(model: EPALM) -> RecomputingOPT:
    """The released code's way to generate with a model's weights."""
    official = OfficialModel(model)
    language_model = official.language_model
    language_model.__class__ = RecomputingOPT
    assert isinstance(language_model, RecomputingOPT)
    language_model.read = official.states
    return language_model


@dataclass(frozen=True)
class Asked:
    """A batch of prompts with vectors, and with ids and mask padded on either side."""

    tokens: Tensor
    left: tuple[Tensor, Tensor]
    right: tuple[Tensor, Tensor]

    @classmethod
    def draw(cls, batch: int, words: int, lengths: tuple[int, int]) -> "Asked":
        """Random prompts of lengths from the first to the second, which one of them has."""
        counts = torch.randint(lengths[0], lengths[1] + 1, (batch,))
        counts[0] = lengths[1]
        drawn = torch.randint(FIRST_WORD, words, (batch, lengths[1]))
        drawn[:, 0] = BEGIN
        present = torch.arange(lengths[1]) < counts[:, None]
        last = present.flip(1)
        left = torch.full_like(drawn, PAD).masked_scatter(last, drawn[present])
        right = drawn.where(present, PAD)
        tokens = torch.randn(batch, VECTORS, ENCODER_WIDTH)
        return cls(tokens, (left, last.long()), (right, present.long()))


@torch.no_grad()
def recompute(model: RecomputingOPT, asked: Asked, decoding: Decoding) -> Tensor:
    """(B, new tokens) ids by the released code's way."""
    ids, mask = asked.right
    out = cast(Any, model).generate(
        input_ids=ids,
        attention_mask=mask,
        tokens=asked.tokens,
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens,
            num_beams=decoding.num_beams,
            use_cache=False,
            pad_token_id=PAD,
        ),
    )
    made: Tensor = out[:, ids.shape[1] :]
    return made


def cached(model: EPALM, asked: Asked, decoding: Decoding) -> Tensor:
    """(B, new tokens) ids by ours."""
    return generate(model, asked.tokens, *asked.left, decoding)


def ranked(model: EPALM, asked: Asked, answers: AnswerList) -> Tensor:
    """(B) best answers by ours."""
    cache = PrefixCache.from_features(model, asked.tokens)
    own = torch.arange(len(asked.tokens))
    return rank(model, cache, *asked.left, answers, image_index=own)[0]


def draw_answers(count: int, words: int) -> AnswerList:
    """A random list."""
    found: dict[tuple[int, ...], str] = {}
    lengths = 1 + torch.multinomial(torch.tensor(ANSWER_WORDS), count, replacement=True)
    for length in lengths.tolist():
        drawn = torch.randint(FIRST_WORD, words, (length,)).tolist()
        found[(*drawn, BEGIN)] = str(len(found))
    return AnswerList.from_token_ids(found)


def timed(make: Callable[[], Tensor], batch: int) -> Variant:
    """Prompts answered in one way."""

    def run(_number: int) -> Sample:
        with Watch() as watch:
            found = make()
        if len(found) != batch:
            raise RuntimeError(f"{len(found)} answers to {batch} prompts")
        return watch.sample(batch)

    return run


def generation_lines(
    model: EPALM, decoding: Decoding, *, batch: int, words: int, rounds: int, target: float
) -> list[Line]:
    """The reference and ours on a batch of many lengths, and ours on one of like length."""
    reference = recomputing(model)
    way = "greedy" if decoding.num_beams == 1 else f"{decoding.num_beams} beams"
    name = f"{way}, batch {batch}"
    mixed = Asked.draw(batch, words, (SHORTEST, LONGEST))
    middle = (SHORTEST + LONGEST) // 2
    alike = Asked.draw(batch, words, (middle, middle))
    ways = {
        f"{name}: {REFERENCE}": lambda: recompute(reference, mixed, decoding),
        f"{name}: ours": lambda: cached(model, mixed, decoding),
        f"{name}: ours, {middle} tokens each": lambda: cached(model, alike, decoding),
    }
    first, ours, _ = ways
    samples = interleave({key: timed(make, batch) for key, make in ways.items()}, rounds)
    return compare(samples, reference=first, unit="prompts/s", targets={ours: target})


def ranking_lines(
    name: str,
    model: EPALM,
    decoding: Decoding,
    *,
    batch: int,
    words: int,
    answers: int,
    rounds: int,
) -> list[Line]:
    """Ranking a list against greedy generation."""
    asked = Asked.draw(batch, words, (SHORTEST, LONGEST))
    listed = draw_answers(answers, words)
    reference = f"{name}, batch {batch}: greedy"
    ways = {
        reference: lambda: cached(model, asked, decoding),
        f"{name}, batch {batch}: ranking {answers}": lambda: ranked(model, asked, listed),
    }
    samples = interleave({key: timed(make, batch) for key, make in ways.items()}, rounds)
    return compare(samples, reference=reference, unit="prompts/s", targets={})


def make_model(shape: str, precision: str, words: int) -> EPALM:
    """The full variant without an end token."""
    model = random_model(random_lm(SHAPES[shape], precision, words=words, device="cpu"), "full")
    model.language_model.config.eos_token_id = None
    return model.eval()


@torch.no_grad()
def make_sure(model: EPALM) -> None:
    """Let some tokens be far more probable than others, and the end token after each of them.

    Random weights alone make all tokens about equally probable, unlike a trained model.
    """
    norm = model.language_model.model.decoder.final_layer_norm
    assert norm is not None, "the shapes of the benchmark have a final norm"
    norm.weight.fill_(10)
    norm.bias.fill_(1)
    head = model.language_model.lm_head.weight
    head[BEGIN] = 10 * head.float().std()


def main(
    precision: Annotated[Literal["bf16", "fp32"], typer.Option()] = "bf16",
    greedy_batch: Annotated[int, typer.Option(help="Prompts, greedy.", min=1)] = 64,
    beam_batch: Annotated[int, typer.Option(help="Prompts, three beams.", min=1)] = 16,
    ranking_batch: Annotated[int, typer.Option(help="Prompts, ranking.", min=1)] = 8,
    answers: Annotated[int, typer.Option(help="Listed answers.", min=1)] = 1000,
    new_tokens: Annotated[int, typer.Option(help="Generated for each prompt.", min=1)] = 10,
    shape: Annotated[str, typer.Option(help="Of the OPT: " + ", ".join(SHAPES))] = "125m",
    words: Annotated[int, typer.Option(help="Of the vocabulary.")] = 50_272,
    rounds: Rounds = 3,
    json: JsonFile = None,
) -> None:
    """Generate and rank."""
    model, sure = (make_model(shape, precision, words) for _ in range(2))
    make_sure(sure)
    for one in (model, sure):
        use_onednn_layout(one.language_model)  # as `epalm-eval` does
    greedy = Decoding(new_tokens)
    lines = []
    for decoding, batch in ((greedy, greedy_batch), (replace(greedy, num_beams=3), beam_batch)):
        target = TARGET if precision == "bf16" else 0.0
        lines += generation_lines(
            model, decoding, batch=batch, words=words, rounds=rounds, target=target
        )
    sizes = {"batch": ranking_batch, "words": words, "answers": answers, "rounds": rounds}
    lines += ranking_lines("unsure model", model, greedy, **sizes)
    lines += ranking_lines("sure model", sure, greedy, **sizes)
    Result("Generation behind a cache, against recomputing", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
