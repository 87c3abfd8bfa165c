"""Each family's logits, with and without injection, equal those of the stock model's layers."""

import pytest
import torch

from tests.model.families.injected import (
    CASES,
    injected,
    padded,
    some_features,
    some_texts,
    uninjected,
)
from tests.model.families.plain_concatenation import concatenated_logits
from tests.model.families.zoo import NAMES, SMALL_DIFFERENCE, shared_model, stock_model
from tests.model.helpers import text_logits


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_empty_plan_gives_the_stock_logits(name: str) -> None:
    model = uninjected(shared_model(name))
    for text in some_texts():
        expected = stock_model(name)(input_ids=text[None]).logits
        actual = text_logits(model, some_features(model, 1), text[None])
        torch.testing.assert_close(actual, expected, rtol=0, atol=SMALL_DIFFERENCE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_right_padded_batch_with_shared_images_equals_plain_concatenation(
    name: str, case: str
) -> None:
    model = injected(shared_model(name), case)
    features, texts = some_features(model, 2), some_texts()
    image_index = torch.tensor([0, 0, 1])
    expected = [
        concatenated_logits(name, model, features[image], text)
        for image, text in zip(image_index, texts, strict=True)
    ]
    if model.plan.visual_sees_all:  # it sees padding too, as in the official implementation
        actual = [
            text_logits(model, features[image, None], text[None])[0]
            for image, text in zip(image_index, texts, strict=True)
        ]
    else:
        ids, mask = padded(texts, "right")
        states = model.last_hidden_states(features, ids, mask, image_index=image_index)
        actual = list(model.logits(states).split([len(text) for text in texts]))
    torch.testing.assert_close(actual, expected, rtol=0, atol=SMALL_DIFFERENCE)
