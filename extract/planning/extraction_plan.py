"""The encoder, the store and the settings of an extraction, made from its checked options."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.store import Store
from epalm.console import counted
from epalm.devices import AUTO, launcher_number, pick_device
from epalm.errors import UsageError
from epalm.extract.encoders.encoder_registry import (
    PRECISIONS,
    Encoder,
    EncoderSettings,
    make_encoder,
)
from epalm.extract.encoders.recorded_encoder import HUGGING_FACE
from epalm.extract.encoders.tokens.token_encoder import TokenEncoder, with_tokens
from epalm.extract.indexing.index_items import IndexItems
from epalm.extract.planning.extract_inputs import Inputs, default_workers
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.preprocessing_choice import choose_preprocessing
from epalm.extract.planning.process_shards import ProcessShard
from epalm.extract.transforms.image_augment import AugmentedViews
from epalm.precision import choose_precision
from epalm.tasks.task_registry import DATASETS
from epalm.tasks.types import MediaItem, MediaSet, Modality

UNITS: dict[Modality, str] = {"image": "images", "video": "videos", "audio": "audio clips"}
"""What samples of a modality are called in progress lines and messages."""

BATCH_SIZES: dict[Modality, int] = {"image": 64, "video": 8, "audio": 16}
"""Default of --batch-size: a batch has about the same number of tokens in each modality (197 per
image, 1,569 per video of 8 frames, 1,214 per audio clip)."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """Settings of a run that change its speed but not the features.

    Attributes:
        batch_size: samples per forward pass of the encoder.
        workers: number of decoding processes; 0 decodes in the encoder's process.
        quiet: show no progress.
    """

    batch_size: int = 32
    workers: int = 2
    quiet: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run encodes, with which encoder, and where the features go.

    Attributes:
        encoder: the loaded encoder, on its device, with the policy of its tokens.
        items: the samples, in the order of the store's rows.
        spec: specification of the store.
        out: path or URL of the store.
        store_format: "zarr" or "hdf5"; None decides by the suffix of `out`.
        run_options: batch size, workers, progress display.
        process_shard: the shards that this process encodes.
        root: data root, which contains the media files.
    """

    encoder: TokenEncoder
    items: Sequence[MediaItem]
    spec: StoreSpec
    out: str
    store_format: str | None
    run_options: RunOptions
    process_shard: ProcessShard
    root: Path

    @property
    def keys(self) -> Sequence[str]:
        """The key of every row."""
        if isinstance(self.items, IndexItems):
            return self.items.keys
        return [item.key for item in self.items]

    @property
    def unit(self) -> str:
        """What the samples are called, e.g. "images"."""
        return UNITS[self.encoder.modality]

    def samples(self, count: int) -> str:
        """A number of samples in words, e.g. "1 image"."""
        return counted(count, self.unit.removesuffix("s"))


def make_plan(inputs: Inputs) -> Plan:
    """Load the encoder and specify the store.

    Raises:
        UsageError: a value is impossible, or does not suit this encoder.
        ModelError: the encoder cannot be loaded.
    """
    options, media, items, out = inputs.options, inputs.media, inputs.items, inputs.out
    device = choose_device(options)
    encoder = load_encoder(
        options,
        device=device,
        modality=media.items[0].modality if media.items else None,
        recorded=_recorded_fingerprint(options, out),
        where=out,
    )
    _check_modality(encoder, media)
    batch_size = options.batch_size or BATCH_SIZES[encoder.modality]
    workers = default_workers(device) if options.workers is None else options.workers
    plan = Plan(
        encoder=encoder,
        items=items,
        spec=_spec(encoder, media, count=len(items), options=options),
        out=out,
        store_format=options.store_format,
        run_options=RunOptions(batch_size, workers, quiet=options.quiet),
        process_shard=inputs.process_shard,
        root=media.root,
    )
    _announce(plan, device)
    return plan


def load_encoder(
    options: ExtractOptions,
    *,
    device: str,
    modality: Modality | None,
    recorded: Mapping[str, str],
    where: str = "",
) -> TokenEncoder:
    """Load the encoder of the options, with the policy of its tokens.

    Args:
        options: the options of the encoder and its transforms.
        device: name of the torch device.
        modality: modality of the samples; None for the encoder's own.
        recorded: fingerprint of the store that is resumed, whose preprocessing and precision are
            the defaults; empty for a new one.
        where: path or URL of that store, for messages.

    Raises:
        UsageError: a value is impossible, or does not suit this encoder.
        ModelError: the encoder cannot be loaded.
    """
    settings = EncoderSettings(
        weights=options.weights,
        preprocessing=choose_preprocessing(
            options.preprocessing,
            encoder=options.encoder,
            dataset=options.dataset,
            recorded=recorded.get("preprocessing.name", ""),
        ),
        image_size=options.image_size,
        precision=_precision(options, where, device, recorded.get("precision", "")),
        device=device,
        views=AugmentedViews(options.views, options.seed, options.augmentation),
        media=modality,
        frames=options.frames,
        frames_pool=options.frames_pool or "",
    )
    model = make_encoder(options.encoder, settings)
    return with_tokens(model, options.tokens, options.source_layers)


def choose_device(options: ExtractOptions) -> str:
    """The device of --device; by default, each process that torchrun starts gets its own GPU."""
    device = pick_device(options.device)
    if device != "cuda" or options.device != AUTO or not os.environ.get("LOCAL_RANK"):
        return device
    return f"cuda:{launcher_number(os.environ, 'LOCAL_RANK') % torch.cuda.device_count()}"


def _recorded_fingerprint(options: ExtractOptions, out: str) -> Mapping[str, str]:
    """The fingerprint of the store that is resumed; empty for a new one."""
    store = Store.at(out, options.store_format)
    return {} if options.fresh or not store.exists() else store.spec.fingerprint


def _precision(options: ExtractOptions, out: str, device: str, recorded: str) -> str:
    """The precision of --precision; by default, a resumed store keeps its own."""
    known = recorded if recorded in PRECISIONS else ""  # a user's encoder may record others
    return choose_precision(options.precision, device, recorded=known, where=out)


def _spec(
    encoder: TokenEncoder, media: MediaSet, *, count: int, options: ExtractOptions
) -> StoreSpec:
    spec = StoreSpec(
        dataset=media.name,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        layers=encoder.layers,
        width=encoder.width,
        count=count,
        views=options.views,
        positions=encoder.positions,
        dtype=options.dtype,
        tasks=media.tasks,
        data_root=str(media.root.resolve()),
        media=_absolute(options.dataset),
        weights=_local_weights(options),
        content_hash=options.content_hash,
    )
    return replace(spec, shard_rows=fit_shard_rows(count, spec.row_bytes))


def _local_weights(options: ExtractOptions) -> str:
    """The absolute path of the weights; "" for those of the hub."""
    folder = Path(options.encoder.removeprefix(HUGGING_FACE))
    is_folder = options.encoder.startswith(HUGGING_FACE) and folder.is_dir()
    weights = folder if is_folder else options.weights
    return str(weights.resolve()) if weights else ""


def _absolute(dataset: str) -> str:
    """The name of a dataset, or the absolute path of a manifest."""
    is_name = dataset in DATASETS or not Path(dataset).exists()
    return dataset if is_name else str(Path(dataset).resolve())


def _check_modality(encoder: Encoder, media: MediaSet) -> None:
    items = media.items[:1] if isinstance(media.items, IndexItems) else media.items
    other = next((item for item in items if item.modality != encoder.modality), None)
    if other is None:
        return
    mixed = other.modality != media.items[0].modality
    advice = (
        "a store has one modality, so split the manifest" if mixed else "choose another --encoder"
    )
    raise UsageError(
        f"{encoder.name} encodes {UNITS[encoder.modality]}, but {media.name} contains "
        f"{UNITS[other.modality]}, e.g. {other.key}: {advice}"
    )


def _announce(plan: Plan, device: str) -> None:
    fingerprint = plan.encoder.fingerprint()
    constants = {
        name.removeprefix("preprocessing."): value
        for name, value in fingerprint.items()
        if name.startswith("preprocessing.")
    }
    logger.info(
        "%s (%s, %s) on %s, blocks %s, %s",
        plan.encoder.name,
        fingerprint.get("architecture", "own code"),
        fingerprint.get("precision", ""),
        device,
        ", ".join(map(str, plan.spec.layers)),
        plan.encoder.describe(),
    )
    logger.info("preprocessing: %s", ", ".join(f"{k} {v}" for k, v in constants.items()))
