"""The samples to encode and the path of their store, from the options; torch is not needed."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from epalm.cache.formats.store_format import SUFFIXES, format_of
from epalm.cache.layer_selection import check_layers
from epalm.cache.token_policy import AUTO, CLS, check_tokens, parse_tokens
from epalm.devices import check_device_name
from epalm.errors import MissingFileError, UsageError
from epalm.extract.encoders.encoder_names import check_encoder_name
from epalm.extract.indexing.indexed_dataset import load_dataset
from epalm.extract.planning.extract_options import ExtractOptions
from epalm.extract.planning.process_shards import ALL, ProcessShard
from epalm.tasks.types import MediaItem, MediaSet
from epalm.untrusted.file_kinds import check_weights_file
from epalm.untrusted.quoted_values import cut

FILES_CHECKED = 100
"""If none of the first 100 files exists, the data root is wrong and the run does not begin."""

MAX_NAME_BYTES = 244
"""Longest name of a store. A file name may have 255 bytes, and files beside the store append to its
name."""

GRID_AXES = 2
"""Axes of the grid of images, and of audio."""

MAX_GPU_WORKERS = 16
"""Largest default number of decoding processes on a machine with a GPU."""


@dataclass(frozen=True)
class Inputs:
    """The samples to encode and the path of their store.

    Attributes:
        options: the options of the command.
        media: the whole dataset.
        items: the samples to encode, in the order of the store's rows.
        out: path or URL of the store.
        process_shard: the shards that this process encodes.
    """

    options: ExtractOptions
    media: MediaSet
    items: Sequence[MediaItem]
    out: str
    process_shard: ProcessShard = ALL


def read_inputs(
    options: ExtractOptions, *, process_shard: ProcessShard = ALL, media: MediaSet | None = None
) -> Inputs:
    """Check the options, cheap checks first, and list the samples.

    Args:
        options: the options of the command.
        process_shard: the shards that this process encodes; all by default.
        media: the samples; None to load those of `options.dataset`.

    Raises:
        UsageError: an unknown name or an impossible value.
        DataError: the files of the dataset or the weights are missing or malformed.
    """
    check_options(options)
    check_weights_option(options)
    if media is None:
        media = load_dataset(options, partial(_whole_out, options))
    check_video_options(options, media)
    out = options.out or str(default_out(media.name, options))
    _check_name_length(out)
    items = media.items[: options.limit]
    _check_files(items)
    return Inputs(options, media, items, out, process_shard)


def check_options(options: ExtractOptions) -> None:
    """Check what can be checked without a file.

    Raises:
        UsageError: an unknown name or an impossible value.
    """
    check_encoder_name(options.encoder)
    check_device_name(options.device)
    check_tokens(options.tokens)
    if options.source_layers:
        check_layers(options.source_layers)
    if options.out is not None:
        format_of(options.out, options.store_format)
    of_engine = {
        "--engine-workers": options.engine_workers,
        "--gpus-per-worker": options.gpus_per_worker,
        "--cpus-per-worker": options.cpus_per_worker,
    }
    needless = next((name for name, value in of_engine.items() if value is not None), "")
    if needless and not options.engine:
        raise UsageError(f"{needless} is an option of --engine: add --engine ray")


def check_weights_option(options: ExtractOptions) -> None:
    """Check that --weights names a folder or a file of weights, and only where it is needed.

    Raises:
        UsageError: --encoder specifies the weights already.
        MissingFileError: there is no such file.
        ModelError: the file does not contain weights.
    """
    weights = options.weights
    if weights is None:
        return
    if options.encoder.startswith("hf:"):
        raise UsageError(
            f"{options.encoder} already specifies the weights: leave out --weights {weights}"
        )
    if not weights.exists():
        raise MissingFileError(f"--weights {weights}: no such file or folder")
    if weights.is_file():
        check_weights_file(weights, label=f"--weights {weights}")


def check_video_options(options: ExtractOptions, media: MediaSet) -> None:
    """Refuse settings that only videos have, for other samples.

    Raises:
        UsageError: names them.
    """
    modality = media.items[0].modality if media.items else "video"
    if modality == "video":
        return
    if options.frames_pool or options.frames is not None:
        raise UsageError("--frames and --frames-pool are options of videos only")
    if options.tokens != AUTO and len(parse_tokens(options.tokens).grid) > GRID_AXES:
        raise UsageError(
            f"--tokens {options.tokens}: only videos have three axes, give two numbers for "
            f"{media.name}, e.g. pool:2x2"
        )


def default_workers(device: str, cores: int | None = None) -> int:
    """The number of decoding processes for a device.

    On a CPU the encoder needs the cores itself, and decoding takes a few per cent of its time.

    Args:
        device: name of the device of the encoder.
        cores: number of cores of this process; None for all that it may run on.
    """
    if cores is None:
        affine = hasattr(os, "sched_getaffinity")
        cores = (len(os.sched_getaffinity(0)) if affine else os.cpu_count()) or 1
    return max(1, cores // 4) if device == "cpu" else min(MAX_GPU_WORKERS, cores)


def default_out(dataset: str, options: ExtractOptions) -> Path:
    """The path of the store if --out is not given: `cache/coco_vitb16.zarr`.

    With --tokens all it ends in `_all`, with --tokens pool:2x2 in `_pool2x2`, with --image-size 384
    in `_384px`, with --frames 16 in `_16frames`, with --limit 100 in `_first100`, before the
    suffix.
    """
    name = options.encoder
    if name.startswith("hf:"):
        name = Path(name.removeprefix("hf:")).name
    plain = re.sub(r"[^a-z0-9]+", "", name.lower())
    part = "" if options.tokens in (AUTO, CLS) else f"_{options.tokens.replace(':', '')}"
    part += f"_{options.image_size}px" if options.image_size else ""
    part += f"_{options.frames}frames" if options.frames else ""
    part += f"_first{options.limit}" if options.limit else ""
    store_format = options.store_format or "zarr"
    suffix = next((suffix for suffix, name in SUFFIXES.items() if name == store_format), "")
    return Path("cache") / f"{dataset}_{plain}{part}{suffix}"


def _whole_out(options: ExtractOptions, name: str) -> str:
    """The path of the store of a whole dataset, beside which its index is."""
    return options.out or str(default_out(name, replace(options, limit=None)))


def _check_name_length(out: str) -> None:
    """Refuse a store whose name is too long for a file system; URLs have no such limit."""
    name = Path(out).name
    if "://" not in out and len(os.fsencode(name)) > MAX_NAME_BYTES:
        raise UsageError(
            f"the store's name {cut(name)} is longer than a file name may be "
            f"({MAX_NAME_BYTES} bytes): give a shorter --out"
        )


def _check_files(items: Sequence[MediaItem]) -> None:
    first = items[:FILES_CHECKED]
    present = (os.path.isfile(item.path) for item in first)  # noqa: PTH113 - Path raises on long names
    if first and not any(present):
        raise MissingFileError(
            f"none of the first {len(first)} media files exists, e.g. {first[0].path}: put them "
            "where the dataset expects them, or give another data root with --data-root or "
            "EPALM_DATA_ROOT (layouts: docs/reference/data.md)"
        )
