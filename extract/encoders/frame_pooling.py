"""Encoders of images over clips: each frame on its own, then the mean of the tokens."""

from collections.abc import Sequence

from torch import Tensor, nn

from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings, Loader
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.extract.transforms.video_loader import ClipLoader
from epalm.tasks.types import Modality

POOLED_FRAMES = 8
"""Frames of a clip unless --frames says otherwise, as many as TimeSformer takes (published)."""

FRAMES_POOLS = ("mean",)
"""Ways to make one vector of those of the frames."""


class FrameMeanEncoder:
    """An encoder of images as an `Encoder` of clips: the mean over frames of normed tokens.

    The published baseline of a ViT on videos (Table 12 of the paper).
    """

    def __init__(self, encoder: Encoder, load: ClipLoader) -> None:
        self.name = encoder.name
        self.width = encoder.width
        self.depth = encoder.depth
        self.positions = encoder.positions
        self.modality: Modality = "video"
        self.norm: nn.Module = nn.Identity().eval()  # `blocks` norms before it takes the mean
        self.load: Loader = load
        self._load_settings = load.fingerprint()
        self._encoder = encoder

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """The mean over frames of the normed outputs of blocks.

        Args:
            batch: (B, T, 3, size, size) uint8.
            layers: which blocks, 0-based and ascending; None for every one.
            positions: how many tokens of each.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        each = self._encoder.blocks(batch.flatten(0, 1), layers=layers, positions=positions)
        normed: list[Tensor] = [self._encoder.norm(states) for states in each]
        return [states.unflatten(0, batch.shape[:2]).mean(dim=1) for states in normed]

    def fingerprint(self) -> dict[str, str]:
        """The encoder's, with what becomes of a clip in place of a photo."""
        return {**self._encoder.fingerprint(), **self._load_settings, "frames_pool": "mean"}


def for_media(encoder: Encoder, settings: EncoderSettings) -> Encoder:
    """An encoder of images for what it will be given: itself, or over clips the mean of frames.

    Raises:
        UsageError: clips without a way to pool frames, or a setting of clips without clips.
    """
    pool, frames = settings.frames_pool, settings.frames
    if settings.media != "video":
        refuse_clip_settings(settings)
        return encoder
    if pool not in FRAMES_POOLS:
        raise UsageError(
            f"{encoder.name} encodes photos: with --frames-pool {' or '.join(FRAMES_POOLS)} it "
            "takes the frames of clips one by one; encoders of clips: timesformer-b"
        )
    assert isinstance(encoder.load, ImageLoader)
    load = ClipLoader(encoder.load.preset, frames or POOLED_FRAMES, settings.views)
    return FrameMeanEncoder(encoder, load)


def refuse_clip_settings(settings: EncoderSettings) -> None:
    """Refuse what only clips have.

    Raises:
        UsageError: a number of frames, or a way to pool them.
    """
    if settings.frames_pool or settings.frames is not None:
        raise UsageError("--frames and --frames-pool are for the pictures of clips")


def refuse_pool(name: str, settings: EncoderSettings) -> None:
    """Refuse pooling for an encoder of whole clips.

    Raises:
        UsageError: a way to pool frames.
    """
    if settings.frames_pool:
        raise UsageError(f"{name} encodes clips whole: leave out --frames-pool")
