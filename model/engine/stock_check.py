"""Comparison of the loop with transformers' own forward pass, before a model is used.

Every model is compared when it is loaded, since no list can name all that a model's code may do
to its hidden states. The work is bounded: two texts of `LENGTH` tokens, and only as many of the
first layers as have `CHECKED_WEIGHTS` weights, but at least one of each kind. Layers compute in
float32 one at a time, whatever the dtype of their weights. A sliding window is shortened to
`WINDOW` for the comparison, so that short texts reach it.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from epalm.errors import ModelError
from epalm.model.engine.decoder_loop import DecoderLoop, LayerInput
from epalm.model.engine.input_embedding import embed_inputs
from epalm.model.engine.packed_attention import ATTENTION
from epalm.model.engine.packing import PackedBatch
from epalm.model.families.decoder_parts import DecoderParts, decoder_parts, supported
from epalm.model.families.family import family_of, text_positions
from epalm.model.method.injection import InjectionPlan
from epalm.model.method.insertion import Insertion

LENGTH = 24
"""Tokens of each text."""

WINDOW = 8
"""Window of sliding layers during the comparison."""

CHECKED_WEIGHTS = 1_000_000_000
"""Weights of the layers that are compared: at most about 0.2 trillion multiplications."""

STATES_TOLERANCE = 1e-3
"""Allowed difference of the final hidden states, computed in float32, in units of the largest."""

LOGIT_TOLERANCES = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Allowed difference of the logits, by the head's dtype, in units of the largest logit."""


@dataclass(frozen=True)
class Outputs:
    """Outputs for the texts of the comparison.

    Attributes:
        states: (texts * LENGTH, w) input of the head.
        logits: (texts, vocabulary) logits after the last token of each text.
    """

    states: Tensor
    logits: Tensor


@torch.no_grad()
def check_against_stock(model: PreTrainedModel, name: str) -> None:
    """Reject a language model that the loop does not reproduce.

    Args:
        model: frozen model on the CPU, in eval mode; changed during the call only.
        name: name of the model, for the message.

    Raises:
        ModelError: states which output differs and by how much, or why none can be computed.
    """
    ids = _texts(model.config)
    with _comparable(model):
        parts = decoder_parts(model)
        model.set_attn_implementation("eager")
        with _refused(f"the forward pass of {name} cannot be compared with this project's loop"):
            stock = _stock_outputs(model, parts, ids)
        model.set_attn_implementation(ATTENTION)
        with _refused(f"the layers of {name} cannot run in this project's loop"):
            loop = _loop_outputs(parts, ids)
    if not (stock.states.isfinite().all() and stock.logits.isfinite().all()):
        raise ModelError(
            f"{name} computes numbers that are not finite for plain text: its weights or "
            "config.json are damaged; get the files again"
        )
    tolerance = LOGIT_TOLERANCES[parts.head.weight.dtype]
    kind = model.config.model_type
    for label, found, expected, allowed in (
        ("hidden states after the last layer", loop.states, stock.states, STATES_TOLERANCE),
        ("logits", loop.logits, stock.logits, tolerance),
    ):
        difference = float((found.float() - expected.float()).abs().max() / expected.abs().max())
        if not difference <= allowed:
            raise ModelError(
                f"{name} ({kind}) computes other {label} than this project's loop over its layers: "
                f"they differ by {difference:.2g} of the largest value, at most {allowed:.0e} is "
                f"allowed, so its code does more than its layers show: {supported()}"
            )


def _texts(config: PretrainedConfig) -> Tensor:
    """(2, LENGTH) int64, two texts of random tokens."""
    length = min(LENGTH, text_positions(config))
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocab_size, (2, length), generator=generator)


def _stock_outputs(model: PreTrainedModel, parts: DecoderParts, ids: Tensor) -> Outputs:
    states: list[Tensor] = []
    handle = parts.body.register_forward_hook(
        lambda _module, _inputs, output: states.append(output[0])
    )
    try:
        output: Any = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_cache=False,
            logits_to_keep=1,
        )
    finally:
        handle.remove()
    return Outputs(states[0].flatten(0, 1), output.logits[:, -1])


def _loop_outputs(parts: DecoderParts, ids: Tensor) -> Outputs:
    """The outputs of the loop without visual tokens and prompt, both texts in one packed batch."""
    present = torch.ones_like(ids, dtype=torch.bool)
    sequences = PackedBatch(present, present, torch.zeros(len(ids), dtype=torch.long))
    insertion = Insertion(InjectionPlan((None,) * len(parts.layers)))
    hidden, _ = embed_inputs(parts, None, ids.flatten(), positions=sequences.positions)
    last = DecoderLoop(parts, insertion, sequences).run(LayerInput(hidden, 0), [])
    states = parts.before_head(last)
    return Outputs(states, parts.logits(states.view(*ids.shape, -1)[:, -1]))


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Turn an error of a model's own code into a refusal that starts with `what`.

    Raises:
        ModelError: the code within the block failed.
    """
    try:
        yield
    except (TypeError, AttributeError, KeyError, ValueError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{what} ({first_line}): {supported()}") from error


@contextmanager
def _comparable(model: PreTrainedModel) -> Iterator[None]:
    """Few layers, a short window and float32 within the block."""
    config, parts = model.config, decoder_parts(model)
    layers, window = family_of(config).layers, getattr(config, "sliding_window", None)
    with ExitStack() as stack:
        stack.callback(setattr, parts.body, layers, parts.layers)
        setattr(parts.body, layers, parts.layers[: _checked_layers(parts)])
        if window is not None:
            stack.callback(setattr, config, "sliding_window", window)
            config.sliding_window = min(window, WINDOW)
        for handle in _float32_hooks(parts):
            stack.callback(handle.remove)
        yield


def _checked_layers(parts: DecoderParts) -> int:
    """Number of first layers to compare."""
    names = [kind.name for kind in parts.kinds]
    needed = 1 + max(names.index(name) for name in set(names))
    weights = sum(weight.numel() for weight in parts.layers[0].parameters())
    return max(needed, min(len(names), CHECKED_WEIGHTS // weights))


def _float32_hooks(parts: DecoderParts) -> Iterator[Any]:
    """Hooks to compute in float32, with at most one module's weights converted at a time."""
    modules = [*parts.layers, parts.final_norm, parts.project_in, parts.project_out]
    for module in modules:
        if module is not None:
            yield from _convert_while_running(module)
    yield parts.word_embedding.register_forward_hook(lambda _module, _ids, output: output.float())
    yield parts.head.register_forward_pre_hook(
        lambda head, inputs: (inputs[0].to(head.weight.dtype),)
    )


def _convert_while_running(module: nn.Module) -> Iterator[Any]:
    kept: list[Tensor] = []

    def convert(*_: Any) -> None:  # noqa: ANN401 - torch's signature
        for weight in module.parameters():
            kept.append(weight.data)
            weight.data = weight.data.float()

    def restore(*_: Any) -> None:  # noqa: ANN401 - torch's signature
        for weight, data in zip(module.parameters(), kept, strict=True):
            weight.data = data
        kept.clear()

    yield module.register_forward_pre_hook(convert)
    yield module.register_forward_hook(restore, always_call=True)
