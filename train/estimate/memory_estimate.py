"""How much memory training takes, from the shapes of a model alone.

Each figure belongs to one process and its device. What backward keeps follows from the operations
of Hugging Face's OPT layer over the rows of `epalm.model.engine.packing`; the weights are frozen,
so that a linear map keeps nothing of what it was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import OPTConfig, OPTForCausalLM

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
"""Part of a device's free memory that a plan may fill; the rest is for what allocators waste."""

TRAINED_COPIES = 4
"""Float32 numbers per trained one: itself, its gradient, and AdamW's two moments."""

FLOAT_BYTES, INDEX_BYTES = 4, 8


@dataclass(frozen=True)
class StepShape:
    """What one process computes in a step.

    Attributes:
        samples: B.
        pictures: G, at most B.
        text_rows: tokens of all B texts.
        longest: T, tokens of the longest of them.
    """

    samples: int
    pictures: int
    text_rows: int
    longest: int


@dataclass(frozen=True)
class WeightPlacement:
    """Where and how the frozen weights lie.

    Attributes:
        precision: a key of `epalm.model.engine.language_model.PRECISIONS`.
        shards: processes among which decoder layers are divided; 1 if each holds all.
        recomputed: layers that backward computes again.
        cpu: whether the device is a CPU.
    """

    precision: str
    shards: int = 1
    recomputed: int = 0
    cpu: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they are for.

    Attributes:
        parts: label -> bytes; the first entry is the frozen weights.
        free: bytes of the device that were free before anything was loaded.
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
        """Whether the total leaves the device some room."""
        return self.total <= USABLE * self.free

    def check_weights(self) -> None:
        """Refuse to begin what cannot even be loaded.

        Raises:
            ModelError: says what would make the weights smaller.
        """
        if self.weights > self.free:
            raise ModelError(
                f"the frozen weights take {byte_size(self.weights)} of each process's device, "
                f"{byte_size(self.free)} are free: give --precision bf16, int8 or int4, a smaller "
                "--lm, or torchrun with --shard-weights; `epalm-train --dry-run ...` says what fits"
            )


def shape_model(settings: ModelSettings) -> EPALM:
    """The model without any weights: its tensors have shapes only.

    Raises:
        ModelError: no language model is found under that name.
        UsageError: a setting that does not fit the language model.
    """
    config = load_config(settings.lm, settings.precision)
    config.dtype = None
    with torch.device("meta"):
        return assemble(freeze(OPTForCausalLM(config)), settings)


def plan_memory(
    model: EPALM, placing: WeightPlacement, load: StepShape, *, store: int = 0, free: int = 0
) -> MemoryPlan:
    """What training takes on one device.

    Args:
        model: see `shape_model`.
        placing: of the frozen weights.
        load: of a step.
        store: bytes of vectors that lie on the device.
        free: bytes that are free there.
    """
    kept = [
        layer_bytes(model, load, index, placing)
        for index in range(len(model.plan.feature_of_layer))
    ]
    remade = kept[len(kept) - min(placing.recomputed, len(kept)) :]
    last = range(len(kept) - len(remade), len(kept))
    inputs = sum(rows_in_layer(model, load, index) for index in last)
    width, itemsize = _width(model), PRECISIONS[placing.precision].itemsize
    activations = sum(kept) - sum(remade) + inputs * width * itemsize
    parts = {
        f"frozen weights, {placing.precision}": frozen_bytes(model, placing),
        "trained tensors, gradients, AdamW": trained_bytes(model),
        "kept for backward": activations + ends_bytes(model, load, itemsize),
        "while a layer computes": max(remade, default=0) + working_bytes(model, load, placing),
        "head, one chunk": head_bytes(model, load, itemsize),
    }
    rearranged = blocked_bytes(model, placing, free)
    optional = {"weights in oneDNN layout": rearranged, "stored features": store}
    parts |= {label: count for label, count in optional.items() if count}
    return MemoryPlan(parts, free)


def frozen_bytes(model: EPALM, placing: WeightPlacement) -> int:
    """Bytes of what lies on the device of the language model that is not trained."""
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


def blocked_bytes(model: EPALM, placing: WeightPlacement, free: int) -> int:
    """Bytes of weights in the CPU's own layout, which are made where memory allows."""
    dtype = PRECISIONS[placing.precision]
    frozen = "language_model" not in model.trained and placing.precision not in QUANTIZED
    if not (placing.cpu and frozen and placing.shards == 1 and onednn_layout_works(dtype)):
        return 0
    maps = [part for part in model.language_model.modules() if isinstance(part, nn.Linear)]
    needed = 2 * dtype.itemsize * sum(part.weight.numel() for part in maps)
    return needed if needed <= MEMORY_FRACTION * (free - frozen_bytes(model, placing)) else 0


def trained_bytes(model: EPALM) -> int:
    """Bytes of everything that AdamW changes, with its gradients and moments."""
    return (
        TRAINED_COPIES
        * FLOAT_BYTES
        * sum(weight.numel() for _, weight in trainable_parameters(model))
    )


def rows_in_layer(model: EPALM, load: StepShape, index: int) -> int:
    """N: visual, prompt and text rows of a step in one layer."""
    visual, prompt = rows_before_text(model, index)
    shared = index < model.plan.first
    return load.pictures * visual + prompt * (1 if shared else load.pictures) + load.text_rows


def rows_before_text(model: EPALM, index: int) -> tuple[int, int]:
    """(V, P): visual and prompt rows of one sequence in a layer."""
    plan, prompt = model.plan, model.prompt
    dropped = plan.tail == "drop" and index >= plan.stop
    visual = 0 if index < plan.first or dropped else model.visual_tokens
    length = prompt.embedding.shape[-2] if isinstance(prompt, SoftPrompt | DeepPrompt) else 0
    return visual, length


def layer_bytes(model: EPALM, load: StepShape, index: int, placing: WeightPlacement) -> int:
    """Bytes that one layer keeps for backward: none where nothing below it is trained."""
    if index < model.plan.first and model.prompt is None and model.adapters is None:
        return 0 if "language_model" not in model.trained else _kept(model, load, index, placing)
    return _kept(model, load, index, placing)


def _kept(model: EPALM, load: StepShape, index: int, placing: WeightPlacement) -> int:
    config = _config(model)
    itemsize = PRECISIONS[placing.precision].itemsize
    width, rows = config.hidden_size, rows_in_layer(model, load, index)
    slots = load.samples * (sum(rows_before_text(model, index)) + load.longest)
    length = slots // load.samples
    norms = rows * (2 * width * itemsize + 4 * FLOAT_BYTES)  # two inputs, means and deviations
    ffn = rows * config.ffn_dim * itemsize  # what ReLU gave
    queries = 3 * slots * width * itemsize  # and keys and values
    scores = slots * config.num_attention_heads * length
    if placing.cpu and length < SHORT_SEQUENCE:
        halves = itemsize if itemsize < FLOAT_BYTES else 0
        weights = scores * (FLOAT_BYTES + halves) + slots * length  # and the mask
    else:  # fused: its result, its normaliser, its mask as an additive one
        weights = slots * (width * itemsize + config.num_attention_heads * FLOAT_BYTES)
        weights += slots * length * itemsize
    masks = 2 * rows * width if model.lm_dropout else 0
    if model.lm_dropout and placing.cpu and length < SHORT_SEQUENCE:
        masks += scores * (1 + itemsize)
    inputs = 3 * rows * width * itemsize if "language_model" in model.trained else 0
    return norms + ffn + queries + weights + masks + inputs + _adapter_bytes(model, rows, width)


def _adapter_bytes(model: EPALM, rows: int, width: int) -> int:
    """Of both adapters of a layer: what they were given, and what ReLU gave, in float32."""
    if model.adapters is None:
        return 0
    inner = model.adapters[0]["ffn"].down.out_features  # type: ignore[index]
    return 2 * rows * (width + int(inner)) * FLOAT_BYTES


def ends_bytes(model: EPALM, load: StepShape, itemsize: int) -> int:
    """Kept before the first and behind the last layer: connectors, layouts, states of the head."""
    width = _width(model)
    source = next(iter(model.connectors.parameters())).shape[1]
    vectors = (
        len(model.plan.feature_of_layer)
        if model.feature_indices is None
        else len(model.feature_indices)
    )
    before, after = (
        rows_before_text(model, index) for index in (0, len(model.plan.feature_of_layer) - 1)
    )
    slots = load.samples * (sum(before) + sum(after) + 2 * load.longest)
    return (
        load.pictures * vectors * source * FLOAT_BYTES
        + 2 * slots * INDEX_BYTES
        + 3 * load.text_rows * width * itemsize
    )


def working_bytes(model: EPALM, load: StepShape, placing: WeightPlacement) -> int:
    """The largest tensors that live only while a layer computes."""
    config = _config(model)
    itemsize = PRECISIONS[placing.precision].itemsize
    rows = max(rows_in_layer(model, load, index) for index in range(config.num_hidden_layers))
    inner = 3 * rows * config.ffn_dim * itemsize  # before and behind ReLU, and a gradient
    layer = model.language_model.model.decoder.layers[0]
    if placing.shards > 1:  # as it is gathered and as it is used
        inner += 2 * layer_weight_bytes(layer, placing.precision)
    if placing.precision in QUANTIZED:
        inner += config.ffn_dim * config.hidden_size * itemsize
    return inner


def head_bytes(model: EPALM, load: StepShape, itemsize: int) -> int:
    """Logits of one chunk, as the product gives them and in float32; all if the head is trained."""
    trained = "language_model" in model.trained
    rows = load.text_rows if trained else min(CHUNK_TOKENS, load.text_rows)
    return rows * _config(model).vocab_size * (itemsize + FLOAT_BYTES)


def _config(model: EPALM) -> OPTConfig:
    config: OPTConfig = model.language_model.config
    return config


def _width(model: EPALM) -> int:
    return int(_config(model).hidden_size)
