"""Memory that training requires, computed from the shapes of a model.

Each number is that of one process and its device. The tensors saved for backward follow from the
operations of Hugging Face's OPT layer over the packed tokens of `epalm.model.engine.packing`; the
weights are frozen, so a linear map saves no input.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import AutoModelForCausalLM, OPTConfig

from epalm.console import byte_size
from epalm.errors import ModelError
from epalm.model.build import assemble
from epalm.model.engine.language_model import PRECISIONS, freeze, load_config
from epalm.model.engine.losses import CHUNK_TOKENS
from epalm.model.engine.onednn_linear import MEMORY_FRACTION, onednn_layout_works
from epalm.model.engine.packed_attention import SHORT_SEQUENCE
from epalm.model.engine.quantized import BLOCK_SIZE, QUANTIZED
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.model.method.model_settings import ModelSettings
from epalm.model.method.prompt import DeepPrompt, SoftPrompt

USABLE = 0.9
"""Fraction of a device's free memory that a plan may fill; the rest is for fragmentation."""

TRAINED_COPIES = 4
"""Float32 numbers per trainable parameter: itself, its gradient, and AdamW's two moments."""

FLOAT_BYTES, INDEX_BYTES = 4, 8


@dataclass(frozen=True)
class StepShape:
    """Sizes of the batch that one process computes in a step.

    Attributes:
        samples: B, number of examples.
        images: G, number of distinct images, at most B.
        text_tokens: number of tokens of all B texts.
        longest: T, number of tokens of the longest text.
    """

    samples: int
    images: int
    text_tokens: int
    longest: int


@dataclass(frozen=True)
class WeightPlacement:
    """Precision and placement of the frozen weights.

    Attributes:
        precision: key of `epalm.model.engine.language_model.PRECISIONS`.
        shards: number of processes that decoder layers are sharded across; 1 for no sharding.
        recomputed: number of layers whose activations are recomputed in the backward pass.
        cpu: whether the device is a CPU.
    """

    precision: str
    shards: int = 1
    recomputed: int = 0
    cpu: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Required memory by purpose.

    Attributes:
        parts: label -> bytes; the first entry is the frozen weights.
        free: bytes that were free on the device before anything was loaded.
    """

    parts: Mapping[str, int]
    free: int = field(compare=False)

    @property
    def weights(self) -> int:
        """Bytes of the frozen weights."""
        return next(iter(self.parts.values()))

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the total is within the usable fraction of the free memory."""
        return self.total <= USABLE * self.free

    def check_weights(self) -> None:
        """Refuse weights that are larger than the free memory.

        Raises:
            ModelError: names options that make the weights smaller.
        """
        if self.weights > self.free:
            raise ModelError(
                f"the frozen weights take {byte_size(self.weights)} of each process's device, "
                f"{byte_size(self.free)} are free: give --precision bf16, int8 or int4, a smaller "
                "--lm, or torchrun with --shard-weights; `epalm-train --dry-run` lists what fits"
            )


def shape_model(settings: ModelSettings) -> EPALM:
    """The model on the meta device: its tensors have shapes, and no data.

    Raises:
        ModelError: there is no language model of that name.
        UsageError: a setting that does not fit the language model.
    """
    config = load_config(settings.lm, settings.precision)
    config.dtype = None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        return assemble(freeze(model), settings)


def plan_memory(
    model: EPALM, placing: WeightPlacement, load: StepShape, *, store: int = 0, free: int = 0
) -> MemoryPlan:
    """The memory that training requires on one device.

    Args:
        model: shapes of the model, from `shape_model`.
        placing: precision and placement of the frozen weights.
        load: sizes of a step's batch.
        store: bytes of features that are in the device's memory.
        free: bytes that are free on the device.
    """
    saved = [
        layer_bytes(model, load, index, placing)
        for index in range(len(model.plan.feature_of_layer))
    ]
    recomputed = saved[len(saved) - min(placing.recomputed, len(saved)) :]
    last = range(len(saved) - len(recomputed), len(saved))
    inputs = sum(tokens_in_layer(model, load, index) for index in last)
    width, itemsize = _width(model), PRECISIONS[placing.precision].itemsize
    activations = sum(saved) - sum(recomputed) + inputs * width * itemsize
    parts = {
        f"frozen weights, {placing.precision}": frozen_bytes(model, placing),
        "trainable tensors, gradients, AdamW": trained_bytes(model),
        "saved for backward": activations + ends_bytes(model, load, itemsize),
        "working memory of a layer": max(recomputed, default=0)
        + working_bytes(model, load, placing),
        "LM head, one chunk": head_bytes(model, load, itemsize),
    }
    onednn = onednn_bytes(model, placing, free)
    optional = {"weights in oneDNN layout": onednn, "stored features": store}
    parts |= {label: count for label, count in optional.items() if count}
    return MemoryPlan(parts, free)


def frozen_bytes(model: EPALM, placing: WeightPlacement) -> int:
    """Bytes of the frozen language model on one device; 0 if it is trained."""
    if "language_model" in model.trained:
        return 0
    decoder, itemsize = model.language_model.model.decoder, PRECISIONS[placing.precision].itemsize
    layers = sum(layer_weight_bytes(layer, placing.precision) for layer in decoder.layers)
    inside = {id(weight) for weight in decoder.layers.parameters()}
    outside = [w for w in model.language_model.parameters() if id(w) not in inside]
    return -(-layers // placing.shards) + sum(weight.numel() for weight in outside) * itemsize


def layer_weight_bytes(layer: nn.Module, precision: str) -> int:
    """Bytes of one decoder layer's weights."""
    itemsize = PRECISIONS[precision].itemsize
    whole = sum(weight.numel() for weight in layer.parameters())
    if precision not in QUANTIZED:
        return whole * itemsize
    maps = [part.weight for part in layer.modules() if isinstance(part, nn.Linear)]
    coded = sum(weight.numel() for weight in maps)
    if precision == "int8":
        codes = coded + FLOAT_BYTES * sum(len(weight) for weight in maps)
    else:
        blocks = sum(-(-weight.numel() // BLOCK_SIZE) for weight in maps)
        codes = blocks * (BLOCK_SIZE // 2 + FLOAT_BYTES)
    return codes + (whole - coded) * itemsize


def onednn_bytes(model: EPALM, placing: WeightPlacement, free: int) -> int:
    """Bytes of the copy of the weights in oneDNN layout, which is made where memory allows."""
    dtype = PRECISIONS[placing.precision]
    frozen = "language_model" not in model.trained and placing.precision not in QUANTIZED
    if not (placing.cpu and frozen and placing.shards == 1 and onednn_layout_works(dtype)):
        return 0
    maps = [part for part in model.language_model.modules() if isinstance(part, nn.Linear)]
    needed = 2 * dtype.itemsize * sum(part.weight.numel() for part in maps)
    return needed if needed <= MEMORY_FRACTION * (free - frozen_bytes(model, placing)) else 0


def trained_bytes(model: EPALM) -> int:
    """Bytes of the trainable parameters with their gradients and AdamW's moments."""
    count = sum(weight.numel() for _, weight in trainable_parameters(model))
    return TRAINED_COPIES * FLOAT_BYTES * count


def tokens_in_layer(model: EPALM, load: StepShape, index: int) -> int:
    """N, number of visual, prompt and text tokens of a step in one layer."""
    visual, prompt = tokens_before_text(model, index)
    shared = index < model.plan.first
    return load.images * visual + prompt * (1 if shared else load.images) + load.text_tokens


def tokens_before_text(model: EPALM, index: int) -> tuple[int, int]:
    """(V, P): number of visual and of prompt tokens of one sequence in a layer."""
    plan, prompt = model.plan, model.prompt
    dropped = plan.tail == "drop" and index >= plan.stop
    visual = 0 if index < plan.first or dropped else model.visual_tokens
    length = prompt.embedding.shape[-2] if isinstance(prompt, SoftPrompt | DeepPrompt) else 0
    return visual, length


def layer_bytes(model: EPALM, load: StepShape, index: int, placing: WeightPlacement) -> int:
    """Bytes that one layer saves for backward: 0 where nothing below it is trained."""
    trained_below = (
        index >= model.plan.first
        or model.prompt is not None
        or model.adapters is not None
        or "language_model" in model.trained
    )
    return _saved_bytes(model, load, index, placing) if trained_below else 0


def _saved_bytes(model: EPALM, load: StepShape, index: int, placing: WeightPlacement) -> int:
    config = _config(model)
    itemsize = PRECISIONS[placing.precision].itemsize
    width, rows = config.hidden_size, tokens_in_layer(model, load, index)
    slots = load.samples * (sum(tokens_before_text(model, index)) + load.longest)
    length = slots // load.samples
    norms = rows * (2 * width * itemsize + 4 * FLOAT_BYTES)  # two inputs, means and deviations
    ffn = rows * config.ffn_dim * itemsize  # output of ReLU
    queries = 3 * slots * width * itemsize  # and keys, and values
    scores = slots * config.num_attention_heads * length
    if placing.cpu and length < SHORT_SEQUENCE:
        halves = itemsize if itemsize < FLOAT_BYTES else 0
        weights = scores * (FLOAT_BYTES + halves) + slots * length  # and the mask
    else:  # fused attention: output, normalizers, additive mask
        weights = slots * (width * itemsize + config.num_attention_heads * FLOAT_BYTES)
        weights += slots * length * itemsize
    masks = 2 * rows * width if model.lm_dropout else 0
    if model.lm_dropout and placing.cpu and length < SHORT_SEQUENCE:
        masks += scores * (1 + itemsize)
    inputs = 3 * rows * width * itemsize if "language_model" in model.trained else 0
    return norms + ffn + queries + weights + masks + inputs + _adapter_bytes(model, rows, width)


def _adapter_bytes(model: EPALM, rows: int, width: int) -> int:
    """Bytes of the inputs and ReLU outputs of a layer's two adapters, in float32."""
    if model.adapters is None:
        return 0
    inner = model.adapters[0]["ffn"].down.out_features  # type: ignore[index]
    return 2 * rows * (width + int(inner)) * FLOAT_BYTES


def ends_bytes(model: EPALM, load: StepShape, itemsize: int) -> int:
    """Bytes saved before the first and after the last layer: connectors, layouts, LM head."""
    width = _width(model)
    source = next(iter(model.connectors.parameters())).shape[1]
    indices = model.feature_indices
    features = len(model.plan.feature_of_layer) if indices is None else len(indices)
    before, after = (
        tokens_before_text(model, index) for index in (0, len(model.plan.feature_of_layer) - 1)
    )
    slots = load.samples * (sum(before) + sum(after) + 2 * load.longest)
    return (
        load.images * features * source * FLOAT_BYTES
        + 2 * slots * INDEX_BYTES
        + 3 * load.text_tokens * width * itemsize
    )


def working_bytes(model: EPALM, load: StepShape, placing: WeightPlacement) -> int:
    """Bytes of the largest tensors that exist only while a layer computes."""
    config = _config(model)
    itemsize = PRECISIONS[placing.precision].itemsize
    rows = max(tokens_in_layer(model, load, index) for index in range(config.num_hidden_layers))
    inner = 3 * rows * config.ffn_dim * itemsize  # input and output of ReLU, and a gradient
    layer = model.language_model.model.decoder.layers[0]
    if placing.shards > 1:  # the gathered and the used copy
        inner += 2 * layer_weight_bytes(layer, placing.precision)
    if placing.precision in QUANTIZED:
        inner += config.ffn_dim * config.hidden_size * itemsize
    return inner


def head_bytes(model: EPALM, load: StepShape, itemsize: int) -> int:
    """Bytes of one chunk's logits, as computed and in float32; of all if the head is trained."""
    trained = "language_model" in model.trained
    rows = load.text_tokens if trained else min(CHUNK_TOKENS, load.text_tokens)
    return rows * _config(model).vocab_size * (itemsize + FLOAT_BYTES)


def _config(model: EPALM) -> OPTConfig:
    config = model.language_model.config
    assert isinstance(config, OPTConfig)
    return config


def _width(model: EPALM) -> int:
    return int(_config(model).hidden_size)
