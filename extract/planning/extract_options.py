"""The options of `epalm-extract`, checked as far as they can be before torch is imported."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from epalm.cache.formats.store_format import SUFFIXES, format_of
from epalm.cache.layer_selection import check_layers
from epalm.devices import AUTO, check_device_name
from epalm.errors import MissingFileError, UsageError
from epalm.extract.encoders.encoder_names import check_encoder_name
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.precision import AUTO as AUTO_PRECISION
from epalm.tasks.readers.json_values import MAX_QUOTED_CHARACTERS
from epalm.tasks.task_registry import load_media
from epalm.tasks.types import MediaItem, MediaSet

DEFAULT_LAYERS = {"cls": "last-6", "all": "last-1"}
"""Tokens -> blocks kept unless others are asked for. Six [CLS] are what the paper injects, all
tokens of the last block what its MAGMA* reads."""

LOOKED_FOR = 100
"""If none of the first so many media exist, the data root is wrong and the run does not begin."""

NAME_BYTES = 244
"""Of a store's name: a file name may have 255, and the files beside a store have longer endings."""


MOST_WORKERS = 16
"""Decoding processes on a machine with a GPU, at most one per core."""


@dataclass(frozen=True)
class Settings:
    """The options of `epalm-extract`; None where the program chooses.

    Attributes:
        encoder: name of the encoder.
        dataset: name of a set of media, or path of a manifest.
        weights: local weights file.
        preprocessing: "official" or "native".
        tokens: of each block, "cls" or "all".
        frames: of each clip; None for the encoder's own number.
        frames_pool: "mean" for an encoder of images over clips.
        source_layers: the blocks to keep, see `parse_layers`; empty for the default of `tokens`.
        views: vectors per medium; all but the first are augmented.
        augmentation: of those views, "official" or "no-flip".
        seed: of those views.
        dtype: of the stored vectors.
        precision: "fp32", "bf16" or "fp16", of the encoder's products; "auto" for that of the store
            that is resumed, else see `epalm.precision.best_precision`.
        out: path or URL of the store.
        store_format: "zarr" or "hdf5"; None goes by the end of `out`.
        data_root: where the media lie.
        device: as for `epalm.devices.pick_device`.
        batch_size: media per pass of the encoder; None for `BATCH_SIZES`.
        workers: decoding processes; None for what fits the machine.
        limit: only the first so many media.
        share: the shards of this process.
        fresh: a store that is there is going to be deleted.
        quiet: no progress, no notes.
        content_hash: record a hash of each sample's bytes.
        allow_outside: see `load_media`.
    """

    encoder: str
    dataset: str
    weights: Path | None = None
    preprocessing: str = "official"
    frames: int | None = None
    frames_pool: str = ""
    tokens: str = "cls"
    source_layers: str = ""
    views: int = 1
    augmentation: str = "official"
    seed: int = 0
    dtype: str = "float16"
    precision: str = AUTO_PRECISION
    out: str | Path | None = None
    store_format: str | None = None
    data_root: Path | None = None
    device: str = AUTO
    batch_size: int | None = None
    workers: int | None = None
    limit: int | None = None
    share: ProcessShard = ALL
    fresh: bool = False
    quiet: bool = False
    content_hash: bool = False
    allow_outside: bool = False


@dataclass(frozen=True)
class Inputs:
    """What is to be encoded, and where it goes.

    Attributes:
        settings: the options.
        media: the set of media, whole.
        items: those of them that are encoded, in the order of the store's rows.
        out: path or URL of the store.
    """

    settings: Settings
    media: MediaSet
    items: tuple[MediaItem, ...]
    out: str


def read_inputs(settings: Settings) -> Inputs:
    """Check the options, cheap checks first, and find the media.

    Raises:
        UsageError: an unknown name or impossible value.
        DataError: the files of the data set, or the weights, are not there or malformed.
    """
    check_encoder_name(settings.encoder)
    check_device_name(settings.device)
    check_layers(settings.source_layers or DEFAULT_LAYERS[settings.tokens])
    if settings.weights is not None and not settings.weights.exists():
        raise MissingFileError(f"--weights {settings.weights}: no such file or folder")
    if settings.out is not None:
        format_of(str(settings.out), settings.store_format)
    media = load_media(settings.dataset, settings.data_root, allow_outside=settings.allow_outside)
    out = str(settings.out or default_out(media.name, settings))
    _check_name_length(out)
    items = media.items[: settings.limit]
    _check_files(items)
    return Inputs(settings, media, items, out)


def default_workers(device: str) -> int:
    """On a CPU the encoder itself needs the cores; decoding takes a few per cent of its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // 4) if device == "cpu" else min(MOST_WORKERS, cores or 1)


def default_out(dataset: str, settings: Settings) -> Path:
    """Where a store goes unless --out says otherwise: `cache/coco_vitb16.zarr`.

    A store of all tokens is `coco_vitb16_all.zarr`, one of --frames 16
    `msrvtt_timesformerb_16frames.zarr`, one cut short by --limit `coco_vitb16_first100.zarr`.
    """
    named = settings.encoder
    if named.startswith("hf:"):
        named = Path(named.removeprefix("hf:")).name
    plain = re.sub(r"[^a-z0-9]+", "", named.lower())
    part = "_all" if settings.tokens == "all" else ""
    part += f"_{settings.frames}frames" if settings.frames else ""
    part += f"_first{settings.limit}" if settings.limit else ""
    wanted = settings.store_format or "zarr"
    suffix = next((end for end, name in SUFFIXES.items() if name == wanted), "")
    return Path("cache") / f"{dataset}_{plain}{part}{suffix}"


def _check_name_length(out: str) -> None:
    """Refuse a store whose name no file system takes; URLs have no such limit."""
    name = Path(out).name
    if "://" not in out and len(os.fsencode(name)) > NAME_BYTES:
        raise UsageError(
            f"the store's name {name[:MAX_QUOTED_CHARACTERS]}... is longer than a file name may be "
            f"({NAME_BYTES} bytes): give a shorter --out"
        )


def _check_files(items: tuple[MediaItem, ...]) -> None:
    first = items[:LOOKED_FOR]
    present = (os.path.isfile(item.path) for item in first)  # noqa: PTH113 - Path raises on long names
    if first and not any(present):
        raise MissingFileError(
            f"none of the first {len(first)} media exists, e.g. {first[0].path}: put them where "
            "the files of the data set name them, or name another data root with --data-root or "
            "EPALM_DATA_ROOT (layouts: docs/data.md)"
        )
