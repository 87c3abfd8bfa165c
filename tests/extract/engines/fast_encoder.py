"""An encoder that needs no time: `--encoder tests.extract.engines.fast_encoder:fast`."""

from epalm.extract.encoders.encoder_registry import EncoderSettings
from tests.extract.engines.fast_loader import load_number
from tests.extract.helpers import CountingEncoder


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
