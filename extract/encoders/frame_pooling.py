"""Image encoders over videos: each frame is encoded on its own, and the tokens are averaged."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from epalm.errors import UsageError
from epalm.extract.decoding.sample_loader import Loader
from epalm.extract.encoders.encoder_registry import Encoder, EncoderSettings
from epalm.extract.encoders.tokens.token_source import (
    TokenSource,
    has_attention_pool,
    outputs_of,
)
from epalm.extract.transforms.image_transform import ImageLoader
from epalm.extract.transforms.video_loader import VideoLoader
from epalm.tasks.types import Modality

POOLED_FRAMES = 8
"""Default number of frames per video, the same as for TimeSformer (published)."""

FRAMES_POOLS = ("mean",)
"""Ways to pool the tokens over the frames."""


class FrameMeanEncoder:
    """An image encoder as an `Encoder` of videos: the mean of the normed tokens over the frames.

    This is the published baseline of a ViT on videos (Table 12 of the paper).
    """

    def __init__(self, encoder: Encoder, load: VideoLoader) -> None:
        self.name = encoder.name
        self.width = encoder.width
        self.depth = encoder.depth
        self.positions = encoder.positions
        self.modality: Modality = "video"
        self.norm: nn.Module = nn.Identity().eval()  # `blocks` applies the norm before the mean
        self.load: Loader = load
        self._load_settings = load.fingerprint()
        self._encoder = encoder
        self.outputs = [replace(tokens, norm=self.norm) for tokens in outputs_of(encoder)]
        self.has_attention_pool = has_attention_pool(encoder)

    def blocks(
        self, batch: Tensor, *, layers: Sequence[int] | None = None, positions: int = 1
    ) -> list[Tensor]:
        """Compute the mean over frames of the normed outputs of blocks.

        Args:
            batch: (B, T, 3, size, size) uint8.
            layers: 0-based ascending numbers of the blocks; None for all blocks.
            positions: number of tokens per block.

        Returns:
            One (B, positions, D) per block, float32, on the encoder's device.
        """
        outputs = self._encoder.blocks(batch.flatten(0, 1), layers=layers, positions=positions)
        normed: list[Tensor] = [self._encoder.norm(states) for states in outputs]
        return [states.unflatten(0, batch.shape[:2]).mean(dim=1) for states in normed]

    def attention_pool(self, batch: Tensor) -> Tensor:
        """Compute the mean over frames of the model's own attention pooling, (B, D)."""
        assert isinstance(self._encoder, TokenSource)
        pooled = self._encoder.attention_pool(batch.flatten(0, 1))
        mean: Tensor = pooled.unflatten(0, batch.shape[:2]).mean(dim=1)
        return mean

    def fingerprint(self) -> dict[str, str]:
        """The encoder's fingerprint, with the loading of videos in place of images."""
        return {**self._encoder.fingerprint(), **self._load_settings, "frames_pool": "mean"}


def for_media(encoder: Encoder, settings: EncoderSettings) -> Encoder:
    """Adapt an image encoder to the modality in the settings, by frame pooling for videos.

    Raises:
        UsageError: videos without a way to pool frames, or a setting of videos without videos.
    """
    pool, frames = settings.frames_pool, settings.frames
    if settings.media != "video":
        refuse_video_settings(settings)
        return encoder
    if pool not in FRAMES_POOLS:
        raise UsageError(
            f"{encoder.name} encodes images: with --frames-pool {' or '.join(FRAMES_POOLS)} it "
            "encodes the frames of a video one by one; video encoders: timesformer-b"
        )
    assert isinstance(encoder.load, ImageLoader)
    load = VideoLoader(encoder.load.preset, frames or POOLED_FRAMES, settings.views)
    return FrameMeanEncoder(encoder, load)


def refuse_video_settings(settings: EncoderSettings) -> None:
    """Refuse settings that only videos have.

    Raises:
        UsageError: the settings have a number of frames or a way to pool them.
    """
    if settings.frames_pool or settings.frames is not None:
        raise UsageError("--frames and --frames-pool are options of videos only")


def refuse_pool(name: str, settings: EncoderSettings) -> None:
    """Refuse pooling for an encoder that takes all frames of a video at once.

    Raises:
        UsageError: the settings have a way to pool frames.
    """
    if settings.frames_pool:
        raise UsageError(f"{name} encodes all frames of a video at once: leave out --frames-pool")
