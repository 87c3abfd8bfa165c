"""From the options of `epalm-extract` to everything a run needs, checked before it begins."""

import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from epalm.cache.spec import StoreSpec, fit_shard_rows
from epalm.cache.zarr_store import PRIVATE
from epalm.devices import AUTO, pick_device
from epalm.errors import MissingFileError, StoreError, UsageError
from epalm.extract.encoder import Encoder, make_encoder
from epalm.extract.run import UNITS, Pace
from epalm.tasks.records import MediaItem, MediaSet
from epalm.tasks.registry import load_media

LOOKED_FOR = 100
"""If none of the first so many media exist, the data root is wrong and the run does not begin."""

MOST_WORKERS = 16
"""Decoding processes on a machine with a GPU, at most one per core."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The options of `epalm-extract`; None where the program chooses.

    Attributes:
        encoder: name of the encoder.
        dataset: name of a set of media, or path of a manifest.
        weights: local weights file.
        preprocessing: "official" or "native".
        layers: how many blocks to keep, counted from the last.
        dtype: of the stored vectors.
        precision: "fp32" or "bf16", of the encoder's products.
        out: the store.
        data_root: where the media lie.
        device: as for `epalm.devices.pick_device`.
        batch_size: media per pass of the encoder.
        workers: decoding processes.
        limit: only the first so many media.
        quiet: no progress, no notes.
    """

    encoder: str
    dataset: str
    weights: Path | None = None
    preprocessing: str = "official"
    layers: int = 6
    dtype: str = "float16"
    precision: str = "fp32"
    out: Path | None = None
    data_root: Path | None = None
    device: str = AUTO
    batch_size: int = 64
    workers: int | None = None
    limit: int | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, checked.

    Attributes:
        encoder: loaded, on its device.
        items: the media, in the order of the store's rows.
        spec: what the store will hold.
        out: the store's path.
        pace: batch size, workers, display.
    """

    encoder: Encoder
    items: tuple[MediaItem, ...]
    spec: StoreSpec
    out: Path
    pace: Pace

    @property
    def unit(self) -> str:
        """What the media are called."""
        return UNITS[self.encoder.modality]


def make_plan(settings: Settings) -> Plan:
    """Find the media, load the encoder, and describe the store.

    Raises:
        UsageError: an unknown name or impossible value.
        DataError: the data set's files are not there or malformed.
        ModelError: the encoder cannot be loaded.
    """
    media = load_media(settings.dataset, settings.data_root)
    items = media.items[: settings.limit]
    _check_files(items)
    device = pick_device(settings.device)
    encoder = make_encoder(
        settings.encoder,
        weights=settings.weights,
        preprocessing=settings.preprocessing,
        precision=settings.precision,
        device=device,
    )
    _check_fit(encoder, media, keep=settings.layers)
    workers = _default_workers(device) if settings.workers is None else settings.workers
    plan = Plan(
        encoder=encoder,
        items=items,
        spec=_spec(encoder, media, count=len(items), settings=settings),
        out=settings.out or default_out(media.name, settings.encoder, limit=settings.limit),
        pace=Pace(settings.batch_size, workers, quiet=settings.quiet),
    )
    _announce(plan, device)
    return plan


def default_out(dataset: str, encoder: str, *, limit: int | None = None) -> Path:
    """Where a store goes unless --out says otherwise: `cache/coco_vitb16.zarr`.

    A store cut short by --limit gets a name of its own: `cache/coco_vitb16_first100.zarr`.
    """
    plain = re.sub(r"[^a-z0-9]+", "", encoder.lower())
    suffix = f"_first{limit}" if limit else ""
    return Path("cache") / f"{dataset}_{plain}{suffix}.zarr"


def start_over(path: Path) -> None:
    """Delete the store at `path`, if there is one.

    Raises:
        StoreError: `path` holds something that is no feature store; nothing is deleted.
    """
    if not path.exists():
        return
    if not (path / PRIVATE / "spec.json").is_file():
        raise StoreError(f"--fresh deletes only feature stores, {path} is none: name another --out")
    shutil.rmtree(path)


def _spec(encoder: Encoder, media: MediaSet, *, count: int, settings: Settings) -> StoreSpec:
    return StoreSpec(
        dataset=media.name,
        encoder=encoder.name,
        fingerprint=encoder.fingerprint(),
        layers=tuple(range(encoder.depth - settings.layers, encoder.depth)),
        width=encoder.width,
        count=count,
        dtype=settings.dtype,
        tasks=media.tasks,
        data_root=str(media.root.resolve()),
        shard_rows=fit_shard_rows(count),
    )


def _check_files(items: tuple[MediaItem, ...]) -> None:
    first = items[:LOOKED_FOR]
    if first and not any(item.path.is_file() for item in first):
        raise MissingFileError(
            f"none of the first {len(first)} media exists, e.g. {first[0].path}: name the folder "
            "that holds them with --data-root or EPALM_DATA_ROOT"
        )


def _check_fit(encoder: Encoder, media: MediaSet, *, keep: int) -> None:
    found = {item.modality for item in media.items} - {encoder.modality}
    if found:
        raise UsageError(
            f"{encoder.name} encodes {UNITS[encoder.modality]}, {media.name} holds "
            f"{', '.join(UNITS[modality] for modality in sorted(found))}: choose another --encoder"
        )
    if not 1 <= keep <= encoder.depth:
        raise UsageError(f"--layers {keep}: {encoder.name} has {encoder.depth} blocks")


def _default_workers(device: str) -> int:
    """On a CPU the encoder itself needs the cores; decoding takes a few per cent of its time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_WORKERS, cores or 1) if device.startswith("cuda") else max(1, (cores or 1) // 4)


def _announce(plan: Plan, device: str) -> None:
    settings = plan.encoder.fingerprint()
    constants = {
        name.removeprefix("preprocessing."): value
        for name, value in settings.items()
        if name.startswith("preprocessing.")
    }
    logger.info(
        "%s (%s, %s) on %s, blocks %d-%d",
        plan.encoder.name,
        settings.get("architecture", "own code"),
        settings.get("precision", ""),
        device,
        plan.spec.layers[0],
        plan.spec.layers[-1],
    )
    logger.info("preprocessing: %s", ", ".join(f"{k} {v}" for k, v in constants.items()))
