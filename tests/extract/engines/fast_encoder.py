"""An encoder that needs no time: `--encoder tests.extract.engines.fast_encoder:fast`."""

import time
from collections.abc import Sequence

import torch

from epalm.extract.encoders.encoder_registry import EncoderSettings
from tests.extract.engines.fast_loader import load_number
from tests.extract.helpers import CountingEncoder

BATCH_SECONDS = 0.1


class FastEncoder(CountingEncoder):
    """Features are the number in the sample's file plus that of the block."""

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        self.load = load_number
        self.settings = settings

    def fingerprint(self) -> dict[str, str]:
        return {"code": "fast", **self.settings.views.fingerprint()}


def fast(name: str, settings: EncoderSettings) -> FastEncoder:
    return FastEncoder(settings)


class SlowEncoder(FastEncoder):
    """The same features, slowly enough for a test to kill its process in the middle."""

    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        time.sleep(BATCH_SECONDS)
        return super().blocks(batch, layers=layers, positions=positions)


def slow(name: str, settings: EncoderSettings) -> SlowEncoder:
    return SlowEncoder(settings)
