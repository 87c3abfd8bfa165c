"""Encode batches of a dataset library: `epalm.Encode`, which is also `epalm.ray.Encode`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from epalm.api.command_values import options_from
from epalm.cache.formats.store_format import Features
from epalm.devices import AUTO
from epalm.errors import UsageError
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.plugins import TypedName
from epalm.tasks.types import Modality

if TYPE_CHECKING:
    from epalm.api.batch_samples import BatchSample
    from epalm.extract.encoders.tokens.token_encoder import TokenEncoder

OPTIONS = (
    *("weights", "precision", "tokens", "source_layers", "preprocessing", "image_size", "frames"),
    *("frames_pool", "views", "augmentation", "seed", "dtype", "device", "batch_size"),
)
"""The options of `epalm-extract` that decide what the features of a sample are, or how fast."""

FEATURES, ERROR, FINGERPRINT = "features", "error", "fingerprint"
"""Columns that are added to a batch."""


def fingerprint_digest(fingerprint: Mapping[str, str]) -> str:
    """A digest of a fingerprint, short enough for a column of every row."""
    text = json.dumps(dict(fingerprint), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Encode:
    """A function of batches that adds their features, with the same bytes as `epalm-extract`.

    Examples:
        >>> import epalm
        >>> encode = epalm.Encode("epalm.demo.encoder:micro_vit")  # comes with this package
        >>> batch = encode({"key": ["scene"], "path": ["scene.png"]})
        >>> batch["features"].shape, batch["error"][0]
        ((1, 1, 6, 96), '')

    With `datasets`, one process per GPU:

        dataset.map(epalm.Encode("vit-b16", column="image"), batched=True, with_rank=True)

    With Ray Data, in actors that load the encoder once:

        dataset.map_batches(
            epalm.ray.Encode, fn_constructor_kwargs={"encoder": "vit-b16"}, num_gpus=1
        )

    The encoder is loaded on the first call, or when `fingerprint` is read. A pickled object has the
    settings alone.
    """

    def __init__(
        self,
        encoder: str,
        *,
        column: str = "path",
        key: str = "key",
        modality: str = "image",
        **options: Any,  # noqa: ANN401 - as the command line
    ) -> None:
        """Check the settings.

        Args:
            encoder: name of the encoder.
            column: column with the samples: paths, the bytes of files, dictionaries with "bytes" or
                "path", RGB images, or (height, width, 3) uint8 arrays.
            key: column with the keys of the samples, on which augmented views depend. It may be
                absent without them.
            modality: "image", "video" or "audio".
            options: the options of `epalm-extract` about the encoder, e.g. `tokens="mean"`.

        Raises:
            UsageError: an unknown option, or an impossible value.
        """
        from epalm.extract.cli import app
        from epalm.extract.planning.extract_inputs import check_options, check_weights_option

        if modality not in get_args(Modality):
            raise UsageError(f"modality={modality!r} is not one of {', '.join(get_args(Modality))}")
        known = {field.name for field in fields(ExtractOptions)}
        if other := [name for name in options if name in known and name not in OPTIONS]:
            raise UsageError(f"{other[0]} is not an option of epalm.Encode: {', '.join(OPTIONS)}")
        values = {**options, "encoder": encoder}
        self.options = options_from(ExtractOptions, app, values, function="epalm.Encode")
        check_options(self.options)
        check_weights_option(self.options)
        self.column, self.key, self.modality = column, key, cast(Modality, modality)
        self._encoder: TokenEncoder | None = None
        self._name = encoder

    def __repr__(self) -> str:
        return f"Encode({self._name!r}, column={self.column!r})"

    def __getstate__(self) -> dict[str, object]:
        """The settings; the encoder is loaded again."""
        return {**self.__dict__, "_encoder": None}

    @property
    def fingerprint(self) -> dict[str, str]:
        """Every setting that could change a feature, as in the spec of a store."""
        return self.load().fingerprint()

    def load(self, rank: int | None = None) -> "TokenEncoder":
        """Load the encoder, unless it is loaded.

        Args:
            rank: number of this process, which picks the GPU if there are several.
        """
        if self._encoder is None:
            from epalm.extract.planning.extraction_plan import load_encoder

            options = replace(self.options, encoder=TypedName(self._name))
            device = self._device(rank)
            self._encoder = load_encoder(
                options, device=device, modality=self.modality, recorded={}
            )
            self._digest = fingerprint_digest(self._encoder.fingerprint())
        return self._encoder

    def _device(self, rank: int | None) -> str:
        import torch

        from epalm.devices import pick_device

        device = pick_device(self.options.device)
        if device != "cuda" or rank is None or self.options.device != AUTO:
            return device
        return f"cuda:{rank % torch.cuda.device_count()}"

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """Encode a batch.

        Args:
            batch: column -> values of the B samples.
            rank: number of this process, see `load`.

        Returns:
            The columns of the batch, without that of the samples unless it has paths, and three
            others: "features", (B, V, L, D) in the dtype of `dtype`, NaN for a sample that failed;
            "error", "" unless it failed; and "fingerprint", a digest of `fingerprint`.

        Raises:
            UsageError: a column is missing, or a value cannot be a sample.
        """
        from epalm.api.batch_samples import batch_samples

        encoder = self.load(rank)
        keys = self._keys(batch)
        with batch_samples(batch, self.column, keys, self.modality) as samples:
            features, errors = self._encode(encoder, samples, keys)
        paths = all(isinstance(value, str) for value in batch[self.column])
        kept = {name: batch[name] for name in batch if paths or name != self.column}
        return {
            **kept,
            FEATURES: features,
            ERROR: np.array([errors.get(key, "") for key in keys], dtype=object),
            FINGERPRINT: np.array([self._digest] * len(keys), dtype=object),
        }

    def _encode(
        self,
        encoder: "TokenEncoder",
        samples: "Sequence[BatchSample]",
        keys: list[str],
    ) -> tuple[Features, dict[str, str]]:
        """(B, V, L, D) features, and key -> reason of each failed sample."""
        from epalm.api.batch_samples import load_samples
        from epalm.extract.planning.extraction_plan import BATCH_SIZES
        from epalm.extract.run_extraction import encode_into

        views = self.options.views
        shape = (len(keys), views, len(encoder.layers) * encoder.positions, encoder.width)
        features: Features = np.full(shape, np.nan, dtype=self.options.dtype)
        size = self.options.batch_size or BATCH_SIZES[self.modality]
        loaded = load_samples(samples, encoder.load, views, batch_size=size)
        errors = encode_into(
            features, encoder, loaded, spec=encoder, keys=keys, tick=lambda *_: None
        )
        features[[row for row, key in enumerate(keys) if key in errors]] = np.nan
        return features, errors

    def _keys(self, batch: Mapping[str, Any]) -> list[str]:
        """The keys of the samples; their numbers in the batch if there is no such column."""
        if self.column not in batch:
            raise UsageError(
                f"the batch has no column {self.column!r} with the samples, only "
                f"{', '.join(batch)}: name it with column=..."
            )
        if self.key in batch:
            keys = [str(key) for key in batch[self.key]]
            if len(set(keys)) < len(keys):
                raise UsageError(f"column {self.key!r} has a key twice, expected each once")
            return keys
        if self.options.views > 1:
            raise UsageError(
                f"the batch has no column {self.key!r}, on which augmented views depend: name the "
                "column of the keys with key=..."
            )
        return [str(row) for row in range(len(batch[self.column]))]
