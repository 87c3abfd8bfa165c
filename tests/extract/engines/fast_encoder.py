"""An encoder that needs no time: `--encoder tests.extract.engines.fast_encoder:fast`."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from epalm.extract.encoders.encoder_registry import EncoderSettings
from tests.extract.engines.fast_loader import load_number
from tests.extract.helpers import CountingEncoder

GATE = "EPALM_TEST_GATE"
"""Environment variable with the path of the file that holds encoders back."""

HELD_NUMBER = 600
"""Batches with a number from this one on are held back."""


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


class HeldEncoder(FastEncoder):
    """The same features; it waits in front of the last shards while the file of GATE exists."""

    def blocks(
        self, batch: torch.Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[torch.Tensor]:
        gate = os.environ.get(GATE, "")
        while bool((batch >= HELD_NUMBER).any()) and gate and Path(gate).exists():
            time.sleep(0.05)
        return super().blocks(batch, layers=layers, positions=positions)


def held(name: str, settings: EncoderSettings) -> HeldEncoder:
    return HeldEncoder(settings)
