"""Injection plans and packed attention against their definitions, for random shapes and masks."""

import math

import torch
from hypothesis import assume
from hypothesis import strategies as st

from epalm.model.engine.packed_attention import packed_attention
from epalm.model.engine.packing import PackedBatch, TokenSplit, build_packed_layout
from epalm.model.method.injection import Tail, plan_injection
from tests.properties.forms import holds_for

HEADS, WIDTH = 2, 4


@holds_for(
    quick=200,
    layers=st.integers(1, 40),
    cached=st.integers(1, 12),
    first=st.integers(0, 39),
    stop=st.integers(1, 40),
    tail=st.sampled_from(["causal", "official", "drop", "to-end"]),
)
def test_a_plan_spreads_features_over_its_span_and_nowhere_else(
    layers: int, cached: int, first: int, stop: int, tail: Tail
) -> None:
    stop = layers if tail == "to-end" else stop
    assume(first < stop <= layers)
    plan = plan_injection(layers, cached, first=first, stop=stop, tail=tail)
    features = plan.feature_of_layer
    assert len(features) == layers
    assert [index is not None for index in features] == [first <= i < stop for i in range(layers)]
    inside = [index for index in features if index is not None]
    assert inside == sorted(inside)
    assert inside[0] == 0
    assert set(inside) == set(range(inside[-1] + 1))
    assert plan.feature_count == min(cached, stop - first)
    runs = [inside.count(index) for index in sorted(set(inside))]
    assert set(runs[:-1]) <= {max((stop - first) // cached, 1)}  # the last one takes the rest
    assert (plan.first, plan.stop) == (first, stop)


@st.composite
def batches(draw: st.DrawFn) -> tuple[PackedBatch, int]:
    """Texts with padding on either side of real tokens, and the number of images."""
    images = draw(st.integers(1, 3))
    further = draw(st.lists(st.integers(0, images - 1), max_size=3))
    index = torch.tensor([*range(images), *further])
    longest = draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, longest), min_size=len(index), max_size=len(index)))
    present = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return PackedBatch(present, present, index), images


@holds_for(
    quick=60,
    drawn=batches(),
    visual=st.integers(0, 3),
    prompt=st.integers(0, 3),
    shared=st.booleans(),
    window=st.one_of(st.none(), st.integers(1, 4)),
    keys_only=st.floats(0, 0.7),
    seed=st.integers(0, 2**31),
)
def test_packed_attention_is_attention_over_each_sequence_alone(
    drawn: tuple[PackedBatch, int],
    visual: int,
    prompt: int,
    *,
    shared: bool,
    window: int | None,
    keys_only: float,
    seed: int,
) -> None:
    sequences, images = drawn
    generator = torch.Generator().manual_seed(seed)
    sets = 1 if shared else images
    before = images * visual + sets * prompt
    count = before + int(sequences.present.sum())
    shape = (3, count, HEADS, WIDTH)
    query, key, value = torch.randn(shape, generator=generator, dtype=torch.float64)
    layout = build_packed_layout(
        sequences, image_count=images, visual=visual, prompt=prompt, shared_prompt=shared
    ).within(window)
    is_query = torch.rand(count, generator=generator) >= keys_only
    is_query[-1] = True  # a layer without a query is never computed
    split = TokenSplit.of(is_query)
    memory, packed, queries = None, [query, key, value], torch.arange(count)
    if split is not None:
        layout = layout.divided(split)
        halves = [split.apply(part) for part in (key, value)]
        memory = tuple(_heads_first(keys) for keys, _ in halves)
        packed = [split.apply(query)[1], *(own for _, own in halves)]
        queries = is_query.nonzero().squeeze(1)
    actual, _ = packed_attention(
        torch.nn.Module(),
        *map(_heads_first, packed),
        None,
        layout=layout,
        memory=memory,  # type: ignore[arg-type]
    )
    for place, token in enumerate(queries.tolist()):
        for seen in _sequences_of(token, sequences, images, visual, prompt, sets, window):
            expected = _attend(query[token], key[seen], value[seen])
            if not shared or token >= before or token < images * visual:
                torch.testing.assert_close(actual[0, place], expected, rtol=1e-5, atol=1e-5)


def _heads_first(tokens: torch.Tensor) -> torch.Tensor:
    """(N, heads, width) to (1, heads, N, width)."""
    return tokens.transpose(0, 1).unsqueeze(0)


def _attend(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(heads, width) attention output of one query, written down head by head."""
    outputs = []
    for head in range(HEADS):
        scores = keys[:, head] @ query[head] / math.sqrt(WIDTH)
        outputs.append(torch.softmax(scores, dim=0) @ values[:, head])
    return torch.stack(outputs)


def _sequences_of(
    token: int,
    sequences: PackedBatch,
    images: int,
    visual: int,
    prompt: int,
    sets: int,
    window: int | None,
) -> list[list[int]]:
    """For each text that has the token before or in it, the tokens that it sees there."""
    before = images * visual + sets * prompt
    starts = before + torch.cumsum(sequences.present.sum(1), 0) - sequences.present.sum(1)
    found = []
    for text, image in enumerate(sequences.image_index.tolist()):
        own_set = 0 if sets == 1 else image
        start = int(starts[text])
        prefix = [image * visual + place for place in range(visual)]
        prefix += [images * visual + own_set * prompt + place for place in range(prompt)]
        words = [start + place for place in range(int(sequences.present[text].sum()))]
        if token in words:
            place = words.index(token)
            earliest = 0 if window is None else max(place - window + 1, 0)
            found.append(prefix + words[earliest : place + 1])
        elif token in prefix:
            found.append(prefix[: prefix.index(token) + 1])
    return found
