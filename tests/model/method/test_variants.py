"""Method variants: exact numbers of trained parameters, features used, generation, gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from epalm.errors import ModelError, UsageError
from epalm.model.build import assemble
from epalm.model.engine.language_model import freeze, weights_digest
from epalm.model.engine.model_batch import Batch
from epalm.model.epalm import trainable_parameters
from epalm.model.generation.decode import generate
from epalm.model.method.model_settings import Decoding
from epalm.model.method.prompt import DeepPrompt
from epalm.model.method.variants import VARIANTS, find_variant
from tests.model.helpers import settings, text_logits, tiny_opt, tiny_variant

SHAPES = {  # name -> (D, H, w, OPT layers)
    "ViT-B+2.7B": (768, 2560, 2560, 32),
    "ViT-L+6.7B": (1024, 4096, 4096, 32),
    "ViT-B+350M": (768, 1024, 512, 24),
}
MAGMA = (107_010_560, 272_928_768, 13_425_664)
DEEP = (2_787_840, 5_509_120, 1_033_216)
RESAMPLER = (16_750_336, 30_460_928, 15_569_152)
"""With w = D and 32 queries in 2 blocks: 25 w^2 + 47 w + (w + 1) H, see `test_resampler`."""
COUNTS = {  # section 2 of the method's description, in the order of SHAPES
    "lin": (1_968_640, 4_198_400, 787_456),
    "6-connectors": (11_811_840, 25_190_400, 4_724_736),
    "pt": (15_106_560, 37_801_984, 1_317_888),
    "pt-light": (1_994_240, 4_239_360, 792_576),
    "full": (24_949_760, 58_793_984, 5_255_168),
    "multi-stage": (24_949_760, 58_793_984, 5_255_168),
    "full-light": (11_837_440, 25_231_360, 4_729_856),
    "ada": (116_853_760, 293_920_768, 17_362_944),
    "deep-prompt": DEEP,
    "promptfuse": (1_994_240, 4_239_360, 792_576),
    "limber": (1_968_640, 4_198_400, 787_456),
    "limber-all": (1_968_640, 4_198_400, 787_456),
    "magma": MAGMA,
    "magma-all-tokens": MAGMA,
    "frozenbilm-like": MAGMA,
    "l19-31+adapter": MAGMA,
    "l19-31+deep-prompt": DEEP,
    "resampler": RESAMPLER,
    "resampler-inner": RESAMPLER,
    # The adapters are those of magma, whose connector is that of lin.
    "resampler+adapter": (
        16_750_336 + 107_010_560 - 1_968_640,
        30_460_928 + 272_928_768 - 4_198_400,
        15_569_152 + 13_425_664 - 787_456,
    ),
    "finetune-lm": (2_676_546_560, 6_717_267_968, 336_451_584),
    # Late prompts have width H. Deep ones are in layers 19..31, of the 350M model in 12..23.
    "late": (24_949_760, 58_793_984, 4_724_736 + 10 * 1024 + 2 * (1024 * 1024 + 1024)),
    "late-light": (11_837_440, 25_231_360, 4_724_736 + 10 * 1024),
    "late-deep": (
        11_811_840 + 13 * 10 * 2560,
        25_190_400 + 13 * 10 * 4096,
        4_724_736 + 12 * 10 * 1024,
    ),
    # Adapters are in the layers from the first injected one to the last.
    "late-ada": (
        11_811_840 + 13 * 2 * (2 * 2560 * 320 + 320 + 2560),
        25_190_400 + 13 * 2 * (2 * 4096 * 512 + 512 + 4096),
        4_724_736 + 12 * 2 * (2 * 1024 * 128 + 128 + 1024),
    ),
}
FROZEN = {  # (language model, encoder with its head), section 2
    "ViT-B+2.7B": (2_651_596_800, 86_567_656),
    "ViT-L+6.7B": (6_658_473_984, 304_326_632),
    "ViT-B+350M": (331_196_416, 86_567_656),
}
PERCENTS = {  # percent of all parameters, encoder included; section 2
    "lin": (0.0718, 0.0603, 0.1881),
    "6-connectors": (0.4295, 0.3605, 1.1183),
    "pt": (0.5487, 0.5400, 0.3145),
    "pt-light": (0.0728, 0.0608, 0.1894),
    "full": (0.9030, 0.8373, 1.2423),
    "full-light": (0.4305, 0.3611, 1.1195),
    "ada": (4.0929, 4.0503, 3.9903),
    "magma": (3.7611, 3.7720, 3.1136),
    "deep-prompt": (0.1017, 0.0791, 0.2467),
}
SIX = {"cached": 6}
THREE_OF_TWO = {"cached": 2, "positions": 3}
"""Two stores with six features per image."""

DEEPEST = 13
"""Layers of the tiny OPT: enough for the published span of six features, 0:12."""


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def published_lm(shape: str) -> OPTForCausalLM:
    _, hidden, embedding, layers = SHAPES[shape]
    config = OPTConfig(
        hidden_size=hidden,
        ffn_dim=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=32 if hidden > 1024 else 16,
        word_embed_proj_dim=embedding,
        do_layer_norm_before=hidden == embedding,
    )
    with torch.device("meta"):
        return freeze(OPTForCausalLM(config))


@pytest.mark.parametrize("name", VARIANTS)
def test_trained_parameters_are_the_published_numbers(
    published_lm: OPTForCausalLM, shape: str, name: str
) -> None:
    width = SHAPES[shape][0]
    published = settings(name, encoder_width=width, cached=6, prompt_length=10, positions=197)
    with torch.device("meta"):
        model = assemble(published_lm, published)
    trained = sum(weight.numel() for _, weight in trainable_parameters(model))
    assert trained == COUNTS[name][list(SHAPES).index(shape)]


def test_frozen_parameters_are_the_published_numbers(
    published_lm: OPTForCausalLM, shape: str
) -> None:
    assert sum(weight.numel() for weight in published_lm.parameters()) == FROZEN[shape][0]


@pytest.mark.parametrize("name", PERCENTS)
def test_the_percentage_of_trained_parameters_is_the_published_one_with_the_encoder_counted(
    shape: str, name: str
) -> None:
    index = list(SHAPES).index(shape)
    trained = COUNTS[name][index]
    percent = 100 * trained / (trained + sum(FROZEN[shape]))
    assert percent == pytest.approx(PERCENTS[name][index], abs=5e-5)


def test_an_unknown_variant_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'ada9' is unknown; did you mean ada.* known are lin"):
        find_variant("ada9")


@pytest.fixture(
    params=[
        pytest.param({"pre_norm": True}, id="pre-LN"),
        pytest.param({"pre_norm": False, "projected": True}, id="post-LN"),
    ]
)
def lm(request: pytest.FixtureRequest) -> OPTForCausalLM:
    return tiny_opt(layers=DEEPEST, **request.param)


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def ids() -> Tensor:
    drawn = torch.randint(4, 60, (2, 6), generator=torch.Generator().manual_seed(6))
    drawn[:, 0] = 2
    return drawn


def store_settings(name: str) -> dict[str, int]:
    """Settings of a store with six features per image that the variant can use."""
    return THREE_OF_TWO if VARIANTS[name].features == "tokens" else SIX


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_uses_all_stored_features_or_the_last_ones(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, name: str
) -> None:
    model = tiny_variant(lm, name, **store_settings(name))
    before = text_logits(model, features, ids)
    used = []
    for index in range(6):
        changed = features.clone()
        changed[:, index] += 1
        used.append(not torch.equal(text_logits(model, changed, ids), before))
    count = {"all": 6, "last": 1, "tokens": 3}[VARIANTS[name].features]
    assert used == [False] * (6 - count) + [True] * count


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_generates_the_same_from_its_cache_as_by_full_recomputation(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, name: str
) -> None:
    lm.config.eos_token_id = None
    model = tiny_variant(lm, name, **store_settings(name))
    expected = ids
    for _ in range(4):
        best = text_logits(model, features, expected)[:, -1:].argmax(-1)
        expected = torch.cat([expected, best], dim=1)
    generated = generate(model, features, ids, torch.ones_like(ids), Decoding(4, 1))
    assert generated.tolist() == expected[:, -4:].tolist()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_trained_tensor_of_a_variant_gets_a_gradient_and_the_frozen_model_none(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, name: str
) -> None:
    before = weights_digest(lm)
    model = tiny_variant(lm, name, **store_settings(name)).train()
    model(
        Batch(features, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    ).values.mean().backward()
    for trained, weight in trainable_parameters(model):
        assert weight.grad is not None, trained
        assert weight.grad.abs().max() > 0, trained
    if "language_model" not in model.trained:
        assert all(weight.grad is None for weight in lm.parameters())
    assert weights_digest(lm) == before


@pytest.mark.parametrize("name", ["ada", "l19-31+deep-prompt"])
def test_trained_parameters_stay_in_float32_around_half_precision_weights(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, name: str
) -> None:
    batch = Batch(features, ids, torch.ones_like(ids), ids, torch.arange(len(ids)))
    model = tiny_variant(lm, name, cached=6)
    with torch.no_grad():
        float32_losses = model(batch).values
    lm.to(torch.bfloat16)
    losses = model(batch).values
    losses.mean().backward()
    assert torch.allclose(losses, float32_losses, rtol=0.05, atol=0.2)
    for trained, weight in trainable_parameters(model):
        assert weight.grad is not None, trained
        assert weight.dtype == torch.float32, trained


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("ada", (0, 12)),
        ("magma", (0, 1)),
        ("l19-31+adapter", (0, 12)),
        ("limber", (0, 1)),
        ("late", (6, 12)),
    ],
)
def test_a_variant_has_its_own_span_unless_the_recipe_gives_a_span(
    name: str, span: tuple[int, int]
) -> None:
    default = tiny_variant(tiny_opt(layers=DEEPEST), name, cached=6).plan
    assert (default.first, default.stop) == span
    overridden = tiny_variant(tiny_opt(layers=DEEPEST), name, cached=6, inject="3:5").plan
    assert (overridden.first, overridden.stop) == (3, 5)


def test_new_adapters_are_small_and_clamped_and_zero_adapters_change_nothing(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor
) -> None:
    plain = text_logits(tiny_variant(lm, "6-connectors", cached=6), features, ids)
    model = assemble(lm, settings("ada", cached=6)).eval()
    assert model.adapters is not None
    torch.manual_seed(1)
    model.connectors.load_state_dict(
        tiny_variant(tiny_opt(layers=DEEPEST), "6-connectors", cached=6).connectors.state_dict()
    )
    for weight in model.adapters.parameters():
        assert 0 < weight.abs().max() <= 2e-3
        torch.nn.init.zeros_(weight)
    assert torch.equal(text_logits(model, features, ids), plain)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("magma-all-tokens", {}, "extract with `epalm-extract --tokens all`"),
        ("magma-all-tokens", {"positions": 3, "tail": "official"}, "use tail 'causal'"),
        ("finetune-lm", {"precision": "bf16"}, "use --precision fp32"),
    ],
)
def test_a_variant_rejects_settings_that_it_does_not_support(
    name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_variant(tiny_opt(), name, **changes)


def test_a_language_model_accepts_the_adapters_of_one_model_only() -> None:
    lm = tiny_opt()
    tiny_variant(lm, "ada")
    with pytest.raises(ModelError, match="already has adapters"):
        tiny_variant(lm, "magma")


@pytest.mark.parametrize("tail", ["causal", "drop"])
def test_a_deep_prompt_replaces_the_prompt_tokens_at_every_layer(
    lm: OPTForCausalLM, features: Tensor, ids: Tensor, tail: str
) -> None:
    """Hooks record each layer's input, [visual | prompt | text] tokens."""
    model = tiny_variant(lm, "l19-31+deep-prompt", cached=6, inject="2:9", tail=tail)
    assert isinstance(model.prompt, DeepPrompt)
    inputs: list[Tensor] = []
    for layer in lm.model.decoder.layers:
        layer.register_forward_pre_hook(lambda module, args: inputs.append(args[0][0]))
    text_logits(model, features, ids)
    for index, hidden in enumerate(inputs):
        visual = 2 if index >= 2 and (tail == "causal" or index < 9) else 0
        sets = 1 if index < 2 else 2
        prompts = hidden[visual : visual + 3 * sets]
        assert torch.equal(prompts, model.prompt(index).repeat(sets, 1))
        assert len(hidden) == visual + 3 * sets + ids.numel()
