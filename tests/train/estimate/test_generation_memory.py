import pytest
import torch

from epalm.model.build import assemble
from epalm.model.generation.decode import extend_cache, generate
from epalm.model.generation.prefix_cache import PrefixCache
from epalm.model.method.model_settings import Decoding
from epalm.train.estimate.generation_memory import GenerationShape, cache_bytes, generation_bytes
from epalm.train.estimate.memory_estimate import plan_memory
from epalm.train.estimate.step_memory import StepShape
from epalm.train.estimate.storage_tracking import LiveStorages
from epalm.train.estimate.weight_memory import WeightPlacement
from tests.model.helpers import settings
from tests.train.estimate.small_models import small_lm

CPU = WeightPlacement("fp32", cpu=True)
FAMILIES = ["opt", "llama", "qwen3", "gpt2", "gemma2"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("variant", ["full", "lin"])
def test_keys_and_values_are_planned_to_the_byte(family: str, variant: str) -> None:
    model = assemble(small_lm(family), settings(variant)).eval()
    images = PrefixCache.from_features(model, torch.randn(5, 2, 8))
    texts = images.select(torch.tensor([0, 3, 3]))
    with torch.no_grad():
        extend_cache(model, texts, torch.randint(4, 200, (3, 11)))
    held = sum(
        tensor.nbytes
        for cache in (images, texts)
        for layer in cache.prefixed
        for tensor in (layer.keys, layer.values)
    )
    assert cache_bytes(model, GenerationShape(5, 3, 1, 7, 4), CPU) == held


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_never_has_more_memory_at_one_time_than_planned(family: str, beams: int) -> None:
    model = assemble(small_lm(family), settings("full")).eval()
    features, ids = torch.randn(6, 2, 8), torch.randint(4, 200, (6, 20))
    decoding, live = Decoding(max_new_tokens=8, num_beams=beams), LiveStorages(model.parameters())
    with live:
        generate(model, features, ids, torch.ones_like(ids), decoding)
    with torch.device("meta"):
        shapes = assemble(small_lm(family), settings("full"))
    planned = generation_bytes(shapes, GenerationShape(6, 6, beams, 20, 8), CPU)
    assert live.peak < planned < 2.5 * live.peak


def test_validation_is_planned_only_beyond_what_a_step_takes() -> None:
    with torch.device("meta"):
        model = assemble(small_lm("llama"), settings("full"))
    step, label = StepShape(8, 8, 130, 20), "validation, beyond a step"
    plain = plan_memory(model, CPU, step)
    small, large = (
        plan_memory(model, CPU, step, generation=GenerationShape(4 * n, n, 3, 20, 20))
        for n in (8, 512)
    )
    assert small.parts == plain.parts
    assert large.total - plain.total == large.parts[label] > 0
