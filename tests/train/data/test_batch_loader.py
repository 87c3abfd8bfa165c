from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from epalm.cache.readers.encoded_examples import encoded_examples
from epalm.cache.readers.epoch_order import ShuffleSpec, pick_views
from epalm.cache.spec import StoreSpec
from epalm.errors import StoreError
from epalm.model.engine.language_model import load_config
from epalm.model.engine.model_batch import Batch
from epalm.model.method.model_settings import Template
from epalm.model.text.text_encoder import TextEncoder
from epalm.model.text.tokenizer import load_tokenizer
from epalm.tasks.types import Example
from epalm.train.data.batch_loader import Loader
from epalm.train.data.tokenized_texts import TokenizedTexts, draw_answer
from epalm.train.parallel.distributed import Group
from tests.cache.helpers import memory_reader
from tests.fakes import save_language_model

COUNT, VIEWS = 50, 3
KEYS = [f"{row}.png" for row in range(COUNT)]


def example(answers: tuple[str, ...], weights: tuple[float, ...] = ()) -> Example:
    return Example("k", "q", "why", answers, answers, weights)


def test_answers_are_drawn_in_proportion_to_their_weights() -> None:
    asked = example(("a", "b", "c"), (0.6, 1.0, 0.4))
    drawn = [draw_answer(asked, step / 1000) for step in range(1000)]
    assert [drawn.count(answer) for answer in "abc"] == [300, 500, 200]


def test_answers_without_weights_have_equal_chances() -> None:
    drawn = [draw_answer(example(("a", "b")), step / 1000) for step in range(1000)]
    assert drawn.count("a") == 500


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999999])
def test_an_example_nobody_agrees_on_teaches_the_empty_text(chance: float) -> None:
    assert draw_answer(example(("a", "b"), (0.0, 0.0)), chance) == ""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    folder: Path = tmp_path_factory.mktemp("words") / "lm"
    lm = str(save_language_model(folder, ["why", "yes", "no"]))
    template = Template("{prompt} {answer}")
    return TextEncoder.create(load_tokenizer(lm), template, load_config(lm, "fp32"))


def loader(text: TextEncoder, order: ShuffleSpec, *, views: int = VIEWS) -> Loader:
    """Two questions about each picture; a vector tells row and view."""
    spec = StoreSpec("d", "v", {}, layers=(0,), width=2, count=COUNT, views=views, dtype="float32")
    values = np.zeros(spec.shape, np.float32)
    values[..., 0] = np.arange(COUNT)[:, None, None]
    values[..., 1] = np.arange(views)[:, None]
    asked = [Example(key, f"q{key}", "why", ("yes", "no"), ()) for key in KEYS * 2]
    source = memory_reader(spec, KEYS, values)
    texts = TokenizedTexts(text, asked)
    return Loader(asked, source, texts, 8, seed=4, order=order)


def seen(batches: list[Batch]) -> np.ndarray:
    """(M, 2) row and view of every example served."""
    rows = [batch.features[batch.image_index, 0].numpy() for batch in batches]
    return np.concatenate(rows).astype(int)


def kept(loader: Loader, epoch: int, start: int = 0) -> list[Batch]:
    """All batches; their vectors copied, as the next batch takes their memory."""
    batches = loader.batches(epoch, start)
    return [replace(batch, features=batch.features.clone()) for batch in batches]


def test_the_examples_of_batches_are_counted_as_they_are_served(
    text: TextEncoder,
) -> None:
    actual = loader(text, ShuffleSpec())
    sizes = [len(batch.image_index) for batch in kept(actual, 0)]
    assert sizes[-1] < sizes[0]
    assert [actual.samples(one, one + 1) for one in range(len(actual))] == sizes
    assert actual.samples(1, len(actual)) == sum(sizes[1:])


def test_the_uniform_order_and_its_answers_are_those_of_published_runs(
    text: TextEncoder,
) -> None:
    random = np.random.default_rng([4, 1])
    order, chances = random.permutation(2 * COUNT), random.random(2 * COUNT)
    batches = kept(loader(text, ShuffleSpec()), epoch=1)
    assert seen(batches)[:, 0].tolist() == (order % COUNT).tolist()
    answers = [int(row[row != 1][-2]) for batch in batches for row in batch.input_ids]
    yes = text.tokenizer.convert_tokens_to_ids("yes")
    assert [answer == yes for answer in answers] == [chances[place] < 0.5 for place in order]


@pytest.mark.parametrize("order", [ShuffleSpec(), ShuffleSpec("blocks", 2)])
def test_a_resumed_epoch_yields_the_remaining_batches(
    text: TextEncoder, order: ShuffleSpec
) -> None:
    whole, rest = (kept(loader(text, order), epoch=2, start=start) for start in (0, 5))
    assert len(whole) == 13
    assert len(rest) == 8
    for left, right in zip(whole[5:], rest, strict=True):
        assert torch.equal(left.features[left.image_index], right.features[right.image_index])
        assert torch.equal(left.labels, right.labels)


@pytest.mark.parametrize("order", [ShuffleSpec(), ShuffleSpec("blocks", 2)])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_shards_of_all_processes_make_up_each_batch_of_one_process(
    text: TextEncoder, order: ShuffleSpec, world: int
) -> None:
    alone = loader(text, order)
    groups = [Group(rank, world) for rank in range(world)]
    shares = [kept(replace(alone, group=group), epoch=1, start=2) for group in groups]
    for number, whole in enumerate(kept(alone, epoch=1, start=2)):
        for rank, share in enumerate(shares):
            together = whole.features[whole.image_index]
            count = len(together)
            mine = [place for place in range(count) if place * world // count == rank]
            actual = (
                [share[number].features[share[number].image_index]] if number < len(share) else []
            )
            assert torch.equal(torch.cat([*actual, together[:0]]), together[mine])
    assert [len(share) for share in shares] == [11, 11, 11, 11, 10][:world]


@pytest.mark.parametrize("order", [ShuffleSpec(), ShuffleSpec("blocks", 2)])
def test_every_question_about_an_image_gets_the_view_drawn_for_the_epoch(
    text: TextEncoder, order: ShuffleSpec
) -> None:
    made = loader(text, order)
    for epoch in (0, 1):
        pairs = seen(kept(made, epoch))
        views = pick_views(4, epoch, KEYS, VIEWS)
        assert sorted(pairs[:, 0].tolist()) == sorted([*range(COUNT), *range(COUNT)])
        assert pairs[:, 1].tolist() == views[pairs[:, 0]].tolist()
    assert len(set(views.tolist())) == VIEWS


@pytest.mark.parametrize("order", [ShuffleSpec(), ShuffleSpec("blocks", 2)])
def test_an_image_with_two_questions_in_a_batch_is_in_it_once(
    text: TextEncoder, order: ShuffleSpec
) -> None:
    plain = loader(text, order)
    grouped = replace(plain, group_questions=2, bucket_batches=3)
    pictures = {False: 0, True: 0}
    for made in (plain, grouped):
        for batch in kept(made, epoch=1):
            distinct = {tuple(vector) for vector in batch.features[:, 0].tolist()}
            assert len(distinct) == len(batch.features)
            pictures[made is grouped] += len(batch.features)
    assert COUNT <= pictures[True] <= COUNT + 3  # a pair may lie across the end of a batch
    assert pictures[False] > 1.5 * COUNT
    assert sorted(map(tuple, seen(kept(grouped, 1)))) == sorted(map(tuple, seen(kept(plain, 1))))


def test_examples_without_any_encoded_sample_cannot_be_trained_on() -> None:
    spec = StoreSpec("d", "v", {}, layers=(0,), width=1, count=2, dtype="float32")
    values = np.array([1.0, np.nan], np.float32).reshape(2, 1, 1, 1)
    index = memory_reader(spec, ["a", "b"], values).index
    good, bad = (Example(key, key, "why", ("x",), ()) for key in ("a", "b"))
    assert encoded_examples([bad, good, bad], index) == [good]
    with pytest.raises(StoreError, match="none of 1 examples has a sample"):
        encoded_examples([bad], index)
