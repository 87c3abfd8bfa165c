"""A rough number of multiplications of a training step, to compare trainings with each other."""

from epalm.train.estimate.memory_advice import MemoryInputs
from epalm.train.estimate.step_memory import StepMemory


def step_operations(inputs: MemoryInputs, *, cached_text_states: bool) -> float:
    """Floating-point operations of the language model's linear maps in one step.

    Two for each weight and token, forward, and again backward where the layer saves activations;
    attention, connectors and validation are left out.

    Args:
        inputs: shapes of the model and sizes of a batch.
        cached_text_states: whether layers below the first injection are not computed.
    """
    model, load = inputs.model, inputs.load
    step = StepMemory(model, load, inputs.placing)
    total = 4.0 * model.parts.head.weight.numel() * load.text_tokens
    for index, layer in enumerate(model.parts.layers):
        if cached_text_states and index < model.plan.first:
            continue
        weights = sum(weight.numel() for weight in layer.parameters())
        passes = 2 if step.layer(index) else 1
        total += 2.0 * weights * step.tokens(index) * passes
    return total
