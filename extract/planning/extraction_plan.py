"""From the options of `epalm-extract` to everything a run needs, checked before it begins."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from epalm.cache.layer_selection import parse_layers
from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import Store
from epalm.devices import AUTO, launcher_number, pick_device
from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import (
    PRECISIONS,
    Encoder,
    EncoderSettings,
    make_encoder,
)
from epalm.extract.planning.extract_options import DEFAULT_LAYERS, Inputs, Settings, default_workers
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.run_extraction import UNITS, RunOptions
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.precision import AUTO as AUTO_PRECISION
from epalm.precision import choose_precision
from epalm.tasks.task_registry import DATASETS
from epalm.tasks.types import MediaItem, MediaSet, Modality

BATCH_SIZES: dict[Modality, int] = {"image": 64, "video": 8, "audio": 16}
"""Media per pass unless --batch-size says otherwise: about as many tokens for each modality (197 of
a photo, 1,569 of a clip of 8 frames, 1,214 of a recording)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, checked.

    Attributes:
        encoder: loaded, on its device.
        items: the media, in the order of the store's rows.
        spec: what the store will hold.
        out: path or URL of the store.
        store_format: as in the settings.
        pace: batch size, workers, display.
        share: the shards of this process.
        root: data root, below which the media are.
    """

    encoder: Encoder
    items: tuple[MediaItem, ...]
    spec: StoreSpec
    out: str
    store_format: str | None
    pace: RunOptions
    share: ProcessShard
    root: Path

    @property
    def keys(self) -> list[str]:
        """The key of every row."""
        return [item.key for item in self.items]

    @property
    def unit(self) -> str:
        """What the media are called."""
        return UNITS[self.encoder.modality]


def make_plan(inputs: Inputs) -> Plan:
    """Load the encoder, and describe the store.

    Raises:
        UsageError: an impossible value, or one that this encoder does not know.
        ModelError: the encoder cannot be loaded.
    """
    settings, media, items, out = inputs.settings, inputs.media, inputs.items, inputs.out
    device = _device(settings)
    settings = replace(settings, precision=_precision(settings, out, device))
    encoder = make_encoder(settings.encoder, _encoder_settings(settings, media, device))
    _check_fit(encoder, media)
    batch_size = settings.batch_size or BATCH_SIZES[encoder.modality]
    workers = default_workers(device) if settings.workers is None else settings.workers
    plan = Plan(
        encoder=encoder,
        items=items,
        spec=_spec(encoder, media, count=len(items), settings=settings),
        out=out,
        store_format=settings.store_format,
        pace=RunOptions(batch_size, workers, quiet=settings.quiet),
        share=settings.share,
        root=media.root,
    )
    _announce(plan, device)
    return plan


def _encoder_settings(settings: Settings, media: MediaSet, device: str) -> EncoderSettings:
    return EncoderSettings(
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        precision=settings.precision,
        device=device,
        views=AugmentedViews(settings.views, settings.seed, settings.augmentation),
        media=media.items[0].modality if media.items else None,
        frames=settings.frames,
        frames_pool=settings.frames_pool,
    )


def _device(settings: Settings) -> str:
    """As asked; under torchrun each process of a machine takes a GPU of its own."""
    device = pick_device(settings.device)
    if device != "cuda" or settings.device != AUTO or not os.environ.get("LOCAL_RANK"):
        return device
    return f"cuda:{launcher_number(os.environ, 'LOCAL_RANK') % torch.cuda.device_count()}"


def _precision(settings: Settings, out: str, device: str) -> str:
    """As asked; by default a store that is resumed keeps its own."""
    store = Store.at(out, settings.store_format)
    resumed = settings.precision == AUTO_PRECISION and not settings.fresh and store.exists()
    recorded = store.spec.fingerprint.get("precision", "") if resumed else ""
    known = recorded if recorded in PRECISIONS else ""  # an encoder of one's own may record others
    return choose_precision(settings.precision, device, recorded=known, where=out)


def _spec(encoder: Encoder, media: MediaSet, *, count: int, settings: Settings) -> StoreSpec:
    every = settings.tokens == "all"
    asked = settings.source_layers or DEFAULT_LAYERS[settings.tokens]
    spec = StoreSpec(
        dataset=media.name,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint() | ({"token": "all"} if every else {}),
        layers=parse_layers(asked, range(encoder.depth)),
        width=encoder.width,
        count=count,
        views=settings.views,
        positions=encoder.positions if every else 1,
        dtype=settings.dtype,
        tasks=media.tasks,
        data_root=str(media.root.resolve()),
        media=_absolute(settings.dataset),
        weights=str(settings.weights.resolve()) if settings.weights else "",
        content_hash=settings.content_hash,
    )
    return replace(spec, shard_rows=fit_shard_rows(count, spec.row_bytes))


def _absolute(dataset: str) -> str:
    """A data set's name, or the path of a manifest from anywhere."""
    named = dataset in DATASETS or not Path(dataset).exists()
    return dataset if named else str(Path(dataset).resolve())


def _check_fit(encoder: Encoder, media: MediaSet) -> None:
    other = next((item for item in media.items if item.modality != encoder.modality), None)
    if other is None:
        return
    mixed = other.modality != media.items[0].modality
    advice = (
        "a store holds media of one kind, split the manifest"
        if mixed
        else "choose another --encoder"
    )
    raise UsageError(
        f"{encoder.name} encodes {UNITS[encoder.modality]}, {media.name} holds "
        f"{UNITS[other.modality]}, e.g. {other.key}: {advice}"
    )


def _announce(plan: Plan, device: str) -> None:
    settings = plan.encoder.fingerprint()
    constants = {
        name.removeprefix("preprocessing."): value
        for name, value in settings.items()
        if name.startswith("preprocessing.")
    }
    logger.info(
        "%s (%s, %s) on %s, blocks %s, %s",
        plan.encoder.name,
        settings.get("architecture", "own code"),
        settings.get("precision", ""),
        device,
        ", ".join(map(str, plan.spec.layers)),
        "[CLS] only" if plan.spec.positions == 1 else f"all {plan.spec.positions} tokens",
    )
    logger.info("preprocessing: %s", ", ".join(f"{k} {v}" for k, v in constants.items()))
