"""The options of an extraction that makes features like recorded ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from epalm.extract.encoders.recorded_encoder import HUGGING_FACE, RecordedEncoder
from epalm.extract.planning.extract_options import Dtype, ExtractOptions


def recorded_options(recorded: RecordedEncoder, *, weights: str, dtype: str) -> ExtractOptions:
    """The options, without a dataset and a store.

    Args:
        recorded: how the features were extracted.
        weights: local file or folder of the encoder's weights; "" for the published ones.
        dtype: dtype of the store.
    """
    fingerprint: Mapping[str, Any] = recorded.fingerprint  # values are checked where they are used
    is_folder = recorded.name.startswith(HUGGING_FACE)
    return ExtractOptions(
        encoder=recorded.name,
        weights=Path(weights) if weights and not is_folder else None,
        preprocessing=fingerprint.get("preprocessing.name", "official"),
        image_size=recorded.image_size,
        frames=recorded.frames,
        frames_pool=fingerprint.get("frames_pool"),
        tokens=recorded.tokens,
        source_layers=recorded.layers,
        dtype=cast("Dtype", dtype),
        precision=fingerprint.get("precision", "fp32"),
    )
