"""Memory of a model's weights on one device, from their shapes: frozen and trainable ones."""

from collections import Counter
from dataclasses import dataclass

from torch import nn

from epalm.model.engine.language_model import PRECISIONS
from epalm.model.engine.onednn_linear import MEMORY_FRACTION, onednn_layout_works
from epalm.model.engine.quantized import BLOCK_SIZE, QUANTIZED
from epalm.model.epalm import EPALM, trainable_parameters
from epalm.train.estimate.layer_trace import first_equal

FLOAT_BYTES = 4

TRAINED_COPIES = 4
"""Float32 numbers per trainable parameter: itself, its gradient, and AdamW's two moments."""


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

    @property
    def itemsize(self) -> int:
        """Bytes of a hidden state's number, and of a weight that is not quantized."""
        return PRECISIONS[self.precision].itemsize


def frozen_bytes(model: EPALM, placing: WeightPlacement) -> int:
    """Bytes of the frozen language model on one device; 0 if it is trained."""
    if "language_model" in model.trained:
        return 0
    decoder, counts = model.parts.layers, Counter(first_equal(model.parts))
    layers = sum(
        count * layer_weight_bytes(decoder[index], placing.precision)
        for index, count in counts.items()
    )
    inside = {id(weight) for weight in decoder.parameters()}
    outside = [w for w in model.language_model.parameters() if id(w) not in inside]
    buffers = sum(buffer.nbytes for buffer in model.language_model.buffers())
    rest = sum(weight.numel() for weight in outside) * placing.itemsize + buffers
    return -(-layers // placing.shards) + rest


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


def unpacked_weight_bytes(model: EPALM, placing: WeightPlacement) -> int:
    """Bytes of the weights of a layer that exist only while it computes.

    A sharded layer is gathered, and copied to be used. Quantized weights are dequantized one by
    one.
    """
    layers = [model.parts.layers[index] for index in set(first_equal(model.parts))]
    if placing.shards > 1:
        return 2 * max(layer_weight_bytes(layer, placing.precision) for layer in layers)
    if placing.precision not in QUANTIZED:
        return 0
    maps = [part for layer in layers for part in layer.modules() if isinstance(part, nn.Linear)]
    return max(part.weight.numel() for part in maps) * placing.itemsize


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
