"""The encoder that the features of a store were computed with, from the store's own fields."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from epalm.cache.preprocessing_names import PAPER, RECORDED
from epalm.cache.spec import CLASS_TOKEN, TOKEN
from epalm.cache.token_policy import ALL, CLS
from epalm.errors import CacheMismatchError, StoreError
from epalm.extract.encoders.encoder_registry import PRECISIONS, EncoderSettings, make_encoder
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder, with_tokens
from epalm.precision import computes_in, why_slow
from epalm.tasks.types import Modality

FINGERPRINT = "fingerprint."
"""Beginning of the names of the fields that `StoreSpec.comparable` takes from the fingerprint."""

AUGMENTATION = "views."
"""Beginning of the entries of a fingerprint that describe augmented views."""

FREE = (AUGMENTATION, "precision")
"""Beginnings of the entries in which an encoder may differ from the recorded one."""

HUGGING_FACE = "hf:"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecordedEncoder:
    """How a store was extracted.

    Attributes:
        name: name of the encoder.
        fingerprint: the fingerprint of its store.
        layers: 0-based numbers of the stored blocks, e.g. "6,7,8".
        tokens: token policy, as in --tokens.
    """

    name: str
    fingerprint: Mapping[str, str]
    layers: str
    tokens: str

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> "RecordedEncoder":
        """From the comparable fields of a store, as a run records them."""
        fingerprint = {
            name.removeprefix(FINGERPRINT): value
            for name, value in fields.items()
            if name.startswith(FINGERPRINT)
        }
        several = fields.get("positions", "1") != "1"
        return cls(
            name=fields.get("encoder", ""),
            fingerprint=fingerprint,
            layers=",".join(re.findall(r"\d+", fields.get("layers", ""))),
            tokens=fingerprint.get(TOKEN, ALL if several else CLS),
        )

    @property
    def preprocessing(self) -> str:
        """Name of the preprocessing, as fingerprints have it."""
        name = self.fingerprint.get("preprocessing.name", "")
        return name if name in RECORDED else RECORDED[PAPER]

    @property
    def image_size(self) -> int | None:
        """Side of the images, pixels; None for audio."""
        return self.number("preprocessing.size")

    @property
    def frames(self) -> int | None:
        """The value of --frames; video encoders record a number for images too, no option."""
        return self.number("frames") if self.media == "video" else None

    @property
    def media(self) -> Modality | None:
        """Modality of the samples; None for the encoder's own."""
        media = self.fingerprint.get("media", "")
        return media if media in ("image", "video") else None  # type: ignore[return-value]

    def number(self, name: str) -> int | None:
        """A number of the fingerprint; None if it has none of this name.

        Raises:
            StoreError: the entry is no number.
        """
        text = self.fingerprint.get(name)
        if text is None:
            return None
        if not text.isdecimal():
            raise StoreError(
                f"the store's fingerprint has {name} {text!r}, expected a number: a store merged "
                "from several is extracted again with --fresh"
            )
        return int(text)

    def named(self, weights: str) -> str:
        """The name of the encoder, with the present place of a local folder."""
        is_folder = self.name.startswith(HUGGING_FACE) and weights
        return HUGGING_FACE + weights if is_folder else self.name

    def load(self, weights: str = "", device: str = "cpu") -> TokenEncoder:
        """Load the encoder, and compare it with the fingerprint.

        Args:
            weights: local file or folder of the weights; "" for the published ones.
            device: name of the torch device.

        Raises:
            CacheMismatchError: another encoder, e.g. other weights, than the recorded one.
            ModelError: the weights cannot be loaded.
            UsageError: the encoder is the user's own code, which a file may not name.
        """
        is_folder = self.name.startswith(HUGGING_FACE)
        path = Path(weights) if weights and not is_folder else None
        settings = EncoderSettings(
            weights=path,
            preprocessing=self.preprocessing,
            image_size=self.image_size,
            precision=self.usable_precision(device),
            device=device,
            media=self.media,
            frames=self.frames,
            frames_pool=self.fingerprint.get("frames_pool", ""),
        )
        encoder = with_tokens(make_encoder(self.named(weights), settings), self.tokens, self.layers)
        self._check(encoder.fingerprint(), weights)
        return encoder

    def usable_precision(self, device: str) -> Literal["fp32", "bf16", "fp16"]:
        """The recorded precision, or fp32 where the device does not have it natively."""
        recorded = self.fingerprint.get("precision", "fp32")
        if recorded not in PRECISIONS:
            return "fp32"
        if recorded != "fp32" and (not computes_in(recorded, device) or why_slow(recorded, device)):
            logger.info(
                "%s: encoding in fp32, the features of training are in %s", device, recorded
            )
            return "fp32"
        return cast('Literal["fp32", "bf16", "fp16"]', recorded)

    def _check(self, actual: Mapping[str, Any], weights: str) -> None:
        names = {
            name
            for name in actual.keys() | self.fingerprint.keys()
            if not name.startswith(FREE) and name != CLASS_TOKEN
        }
        differing = [
            f"{name} is {actual.get(name, 'absent')}, in training "
            f"{self.fingerprint.get(name, 'absent')}"
            for name in sorted(names)
            if actual.get(name) != self.fingerprint.get(name)
        ]
        if differing:
            where = f"{self.name} ({weights})" if weights else self.name
            raise CacheMismatchError(
                f"{where} is not the encoder of the run's features: {'; '.join(differing)}. Give "
                "the weights of that extraction with --weights"
            )
