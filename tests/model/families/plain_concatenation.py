"""Independent reference: a stock model's own layers over [visual | prompt | text], one text a time.

Nothing is packed: positions are 0, 1, 2 ... from the first visual token on, attention is
transformers' eager function, and the mask is written down here.
"""

from typing import Any

import torch
from torch import Tensor, nn

from epalm.model.epalm import EPALM
from epalm.model.families.decoder_parts import decoder_parts
from epalm.model.method.adapter import detach_adapters
from epalm.model.method.prompt import DeepPrompt, SoftPrompt
from tests.model.families.zoo import LAYERS, WINDOW, stock_model

SLIDING_LAYERS = {
    "qwen2-window": (3, 4, 5),
    "gemma2": (0, 2, 4),
    "gemma3": (0, 1, 2, 3, 4),
    "olmo3": (0, 2, 4),
    **dict.fromkeys(("mistral-window", "phi3", "starcoder2"), tuple(range(LAYERS))),
}
"""Layers with a window, worked out by hand from the configurations."""

ROTATION_PER_KIND = ("gemma3", "olmo3")

TABLES = {"opt": ("embed_positions", 2), "gpt2": ("wpe", 0)}
"""Learned position tables, and their entry of position 0."""


def concatenated_logits(name: str, model: EPALM, features: Tensor, ids: Tensor) -> Tensor:
    """Logits (T, vocabulary) of a text after an image.

    Args:
        name: configuration of the language model.
        model: model whose trained parts and plan are used; other parts are not.
        features: (L, D) stored features of the image.
        ids: (T) int64.
    """
    parts = decoder_parts(stock_model(name))
    if model.adapters is None:
        return _logits(name, model, features, ids)
    model.adapters.attach(parts)
    try:
        return _logits(name, model, features, ids)
    finally:
        detach_adapters(parts)


def _logits(name: str, model: EPALM, features: Tensor, ids: Tensor) -> Tensor:
    stock, plan = stock_model(name), model.plan
    parts = decoder_parts(stock)
    visual = _visual_tokens(model, features)
    hidden, prompt = _input(name, model, ids)
    count = visual[0].shape[0]
    for layer in range(LAYERS):
        feature = plan.feature_of_layer[layer]
        present = len(hidden) - prompt - len(ids)
        if feature is not None:
            hidden = torch.cat([visual[feature], hidden[present:]])
        elif plan.tail == "drop" and layer >= plan.stop:
            hidden = hidden[present:]
        present = len(hidden) - prompt - len(ids)
        if (own := _prompt_of_layer(model, layer)) is not None:
            hidden = torch.cat([hidden[:present], own, hidden[present + prompt :]])
            prompt = len(own)
        mask = _mask(name, layer, (present, prompt, len(ids)), sees_all=plan.visual_sees_all)
        positions = torch.arange(count - present, count + prompt + len(ids))
        hidden = _run(name, parts.layers[layer], layer, hidden, mask=mask, positions=positions)
    states = hidden[-len(ids) :]
    for part in (parts.final_norm, parts.project_out):
        states = states if part is None else part(states)
    logits: Tensor = parts.head(states)
    cap = getattr(stock.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _prompt_of_layer(model: EPALM, layer: int) -> Tensor | None:
    """(P, H) prompt tokens that the layer gets in place of the earlier ones; None for none."""
    late = model.only_keys
    if isinstance(model.prompt, DeepPrompt):
        first = model.plan.first if late else 0
        return model.prompt.embedding[layer - first] if layer >= first else None
    return model.prompt() if model.prompt and late and layer == model.plan.first else None


def _visual_tokens(model: EPALM, features: Tensor) -> list[Tensor]:
    """(V, H) for each connector."""
    indices = model.feature_indices
    used = features if indices is None else features[indices]
    groups = used.split(model.visual_tokens)
    maps = list(model.connectors.maps)
    maps = maps if len(maps) == len(groups) else maps * len(groups)
    return [connect(group) for connect, group in zip(maps, groups, strict=True)]


def _input(name: str, model: EPALM, ids: Tensor) -> tuple[Tensor, int]:
    """Hidden states [prompt | text] that enter layer 0, and P."""
    body = decoder_parts(stock_model(name)).body
    hidden = stock_model(name).get_input_embeddings()(ids)
    if isinstance(model.prompt, SoftPrompt) and not model.only_keys:
        hidden = torch.cat([model.prompt(), hidden])
    if getattr(body, "project_in", None) is not None:
        hidden = body.get_submodule("project_in")(hidden)
    table, first = TABLES.get(stock_model(name).config.model_type, ("", 0))
    if table:
        weight = body.get_submodule(table).weight
        assert isinstance(weight, Tensor)
        hidden[len(hidden) - len(ids) :] += weight[first : first + len(ids)]
    return hidden, len(hidden) - len(ids)


def _mask(name: str, layer: int, counts: tuple[int, int, int], *, sees_all: bool) -> Tensor:
    """(S, S) bool, whether the query (row) sees the key (column)."""
    visual, prompt, _ = counts
    length, before = sum(counts), visual + prompt
    mask = torch.zeros(length, length, dtype=torch.bool)
    window = WINDOW if layer in SLIDING_LAYERS.get(name, ()) else length
    for query in range(length):
        for key in range(query + 1):
            mask[query, key] = key < before or query - key < window
    if sees_all:
        mask[:visual] = True
    return mask


def _run(
    name: str, layer: nn.Module, index: int, hidden: Tensor, *, mask: Tensor, positions: Tensor
) -> Tensor:
    arguments: dict[str, Any] = {}
    body = decoder_parts(stock_model(name)).body
    if hasattr(body, "rotary_emb"):
        kind = "sliding" if index in SLIDING_LAYERS.get(name, ()) else "full"
        own = (f"{kind}_attention",) if name in ROTATION_PER_KIND else ()
        rotary = body.get_submodule("rotary_emb")
        arguments["position_embeddings"] = rotary(hidden, positions[None], *own)
    added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    output = layer(hidden[None], attention_mask=added[None, None], **arguments)
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states.view(hidden.shape)
