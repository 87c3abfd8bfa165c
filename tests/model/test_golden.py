"""Parity with the official implementation, on its recorded outputs."""

import pytest
import torch

from epalm.model.engine.model_batch import Batch
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from tests.model.helpers import GoldenCase, golden_name, load_golden

CASES = [
    "01_preln_lin_shared",
    "02_preln_pt",
    "03_preln_full",
    "04_preln_pt_light",
    "05_preln_ada",
    "06_postln_proj_full",
    "07_preln_end_at_last_full",
    "08_preln_input_single_lin",
]


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> GoldenCase:
    return load_golden(request.param)


def batch_of(case: GoldenCase) -> Batch:
    names = ("cls", "input_ids", "attention_mask", "labels")
    inputs = [case.inputs[name] for name in names]
    return Batch(*inputs, torch.arange(len(inputs[0])))


def test_text_logits_equal_those_of_the_official_implementation(case: GoldenCase) -> None:
    batch = batch_of(case)
    mask = batch.attention_mask
    with torch.no_grad():
        logits = case.model.logits(
            case.model.last_hidden_states(batch.features, batch.input_ids, mask)
        )
    prefix = 1 + case.config["prompt_length"]
    expected = case.expected["logits"][:, prefix:]
    if len(logits) == mask.numel():  # the official tail computes padding tokens too
        logits = logits[mask.bool().flatten()]
    assert torch.allclose(logits, expected[mask.bool()], atol=2e-5)


def test_losses_and_gradients_equal_those_of_the_official_implementation(case: GoldenCase) -> None:
    case.model.zero_grad()
    losses = case.model(batch_of(case)).per_example()
    (case.config["loss_scale"] * losses.mean()).backward()
    assert torch.allclose(losses, case.expected["loss_per_sample"], atol=5e-5)
    for name, parameter in case.model.named_parameters():
        if parameter.requires_grad:
            golden = case.expected["grad." + golden_name(name)]
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, golden, atol=2e-6, rtol=1e-4), name


@pytest.mark.parametrize(("beams", "name"), [(1, "generate_greedy"), (3, "generate_beam3")])
@pytest.mark.parametrize("number", CASES[:-1])
def test_generated_ids_equal_those_of_the_official_implementation(
    number: str, beams: int, name: str
) -> None:
    case = load_golden(number)
    ids = case.inputs["generate_input_ids"]
    decoding = Decoding(case.config["generate"]["max_new_tokens"], beams)
    new = generate(case.model, case.inputs["generate_cls"], ids, torch.ones_like(ids), decoding)
    assert torch.cat([ids, new], dim=1).tolist() == case.expected[name].tolist()
