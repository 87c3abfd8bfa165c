"""The options of `epalm-extract`, each declared once: as a field of a dataclass."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from epalm.cache.token_policy import AUTO as AUTO_TOKENS
from epalm.devices import AUTO
from epalm.options import DATA, GENERAL, PERFORMANCE, AllowOutside, Device, Json, Quiet, option

ENCODER, TRANSFORMS, STORE, ENGINE = "Encoder", "Transforms", "Store", "Engine"
"""Panels of the help, beside those that several commands have."""

MAX_SEED = 10**12

MAX_IMAGE_SIZE = 4096

MAX_BATCH_SIZE = 1_000_000

MAX_WORKERS = 1024

MAX_MEASURE_SECONDS = 3600

Dtype = Literal["float16", "float32"]

StoreLocation = Annotated[str, typer.Argument(metavar="STORE", help="Path or URL of the store.")]

RecordedDataRoot = Annotated[
    Path | None,
    option(help="Folder of the dataset; default: the one used at extraction.", panel=DATA),
]
"""The option --data-root of commands on an existing store."""


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """The options of `epalm-extract`; None or "" where the program chooses."""

    dataset: Annotated[
        str,
        option(
            help="Dataset (coco, flickr8k, ...), or path of a manifest or its folder. Required.",
            panel=DATA,
        ),
    ] = ""
    data_root: Annotated[
        Path | None,
        option(help="Folder of the dataset; default: $EPALM_DATA_ROOT.", panel=DATA),
    ] = None
    limit: Annotated[
        int | None,
        option(
            help="Encode only the first N samples; the default --out then ends in _firstN.",
            panel=DATA,
            min=1,
        ),
    ] = None
    index: Annotated[
        Path | None,
        option(
            help="Folder of the sample index of a large dataset; default: that of the store, with "
            ".index after its name.",
            panel=DATA,
        ),
    ] = None
    allow_outside: AllowOutside = False
    encoder: Annotated[
        str,
        option(
            help="Frozen encoder: vit-ti16, vit-s16, vit-b16, vit-l16, clip-vit-l14, "
            "timesformer-b, ast, timm:<name>, hf:<id or folder> or module:factory. Required.",
            panel=ENCODER,
        ),
    ] = ""
    weights: Annotated[
        Path | None,
        option(
            help="Local file or folder of weights; default: the published ones from the hub.",
            panel=ENCODER,
        ),
    ] = None
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        option(
            help="Precision of the encoder; auto: that of the store if it exists, else the "
            "fastest that the device supports natively.",
            panel=ENCODER,
        ),
    ] = "auto"
    tokens: Annotated[
        str,
        option(
            help="Tokens to keep of each block: cls, mean (of the patches), pool:RxC (averages of "
            "a grid), all, or map (the model's own attention pooling); default: cls if the encoder "
            "has a class token, else mean.",
            panel=ENCODER,
            show_default=False,
        ),
    ] = AUTO_TOKENS
    source_layers: Annotated[
        str,
        option(
            help="Blocks to keep: all, last-6, or 0,5,11; default: last-6, or last-1 if several "
            "tokens of each are kept.",
            panel=ENCODER,
        ),
    ] = ""
    preprocessing: Annotated[
        Literal["native", "paper", "official"] | None,
        option(
            help="Resizing and normalization: native (the encoder's own) or paper (eP-ALM's code; "
            "official is its earlier name); default: that of the store if it exists, else paper "
            "for the paper's encoders and datasets, native for all others.",
            panel=TRANSFORMS,
        ),
    ] = None
    image_size: Annotated[
        int | None,
        option(
            help="Side of the images in pixels; position embeddings are interpolated. Default: "
            "the encoder's own.",
            panel=TRANSFORMS,
            min=1,
            max=MAX_IMAGE_SIZE,
        ),
    ] = None
    frames: Annotated[
        int | None,
        option(
            help="Frames per video; default: as the encoder was trained.", panel=TRANSFORMS, min=1
        ),
    ] = None
    frames_pool: Annotated[
        Literal["mean"] | None,
        option(
            help="Encode videos with an image encoder: average the tokens over the frames.",
            panel=TRANSFORMS,
        ),
    ] = None
    views: Annotated[
        int,
        option(help="Views per sample; all but the first are augmented.", panel=TRANSFORMS, min=1),
    ] = 1
    augmentation: Annotated[
        Literal["official", "no-flip"],
        option(help="Augmentation of all views but the first.", panel=TRANSFORMS),
    ] = "official"
    seed: Annotated[
        int,
        option(help="Random seed of the augmented views.", panel=TRANSFORMS, min=0, max=MAX_SEED),
    ] = 0
    out: Annotated[
        str | None,
        option(
            help="Path or URL (s3://...) of the store; default: cache/<dataset>_<encoder>.zarr.",
            panel=STORE,
        ),
    ] = None
    store_format: Annotated[
        Literal["zarr", "hdf5"] | None,
        option(
            "--format",
            help="Format of the store; default: by the suffix of --out, else zarr.",
            panel=STORE,
        ),
    ] = None
    dtype: Annotated[Dtype, option(help="Type of the stored features.", panel=STORE)] = "float16"
    content_hash: Annotated[
        bool,
        option(
            "--content-hash",
            help="Also record the SHA-256 of each file, besides size and modification time.",
            panel=STORE,
        ),
    ] = False
    fresh: Annotated[
        bool,
        option(
            "--fresh", help="Delete the store and start over, instead of resuming.", panel=STORE
        ),
    ] = False
    changed_dataset: Annotated[
        Literal["grow", "refuse"] | None,
        option(
            help="Dataset with other samples than the store: grow (add rows for the new ones, keep "
            "those of the others), or refuse. Default: grow, but stop if the dataset lacks more "
            "than a tenth of the store's samples, as another dataset would.",
            panel=STORE,
        ),
    ] = None
    changed_media: Annotated[
        Literal["encode", "keep"] | None,
        option(
            help="Samples whose file changed: encode their shards again, or keep (no file is "
            "checked). Default: encode, but stop if all differ in time alone, as in a copy.",
            panel=STORE,
        ),
    ] = None
    device: Device = AUTO
    batch_size: Annotated[
        int | None,
        option(
            help="Samples per batch; default: 64 images, 8 videos, 16 audio clips.",
            panel=PERFORMANCE,
            min=1,
            max=MAX_BATCH_SIZE,
        ),
    ] = None
    workers: Annotated[
        int | None,
        option(
            help="Decoding processes; default: chosen from the number of cores.",
            panel=PERFORMANCE,
            min=0,
            max=MAX_WORKERS,
        ),
    ] = None
    shard: Annotated[
        str,
        option(
            help="i/n: do part i of n, from 0/n on; default: from torchrun's or SLURM's variables.",
            panel=PERFORMANCE,
        ),
    ] = ""
    engine: Annotated[
        str,
        option(
            help="ray, or ray://<host>:<port>: encode on the machines of a Ray cluster, or on this "
            "one if no cluster runs (extra `ray`). Default: in this process.",
            panel=ENGINE,
        ),
    ] = ""
    engine_workers: Annotated[
        int | None,
        option(
            help="Encoders on the cluster, each in a process of its own; default: as many as fit.",
            panel=ENGINE,
            min=1,
            max=MAX_WORKERS,
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        option(
            help="GPUs of each encoder, e.g. 0.5 for two on one GPU; default: 1 if the cluster has "
            "GPUs, else 0.",
            panel=ENGINE,
            min=0,
            max=1,
        ),
    ] = None
    cpus_per_worker: Annotated[
        int | None,
        option(
            help="Cores of each encoder and its decoding processes; default: 1 on a cluster "
            "without GPUs, else the encoder's part of the cores per GPU.",
            panel=ENGINE,
            min=1,
            max=MAX_WORKERS,
        ),
    ] = None
    dry_run: Annotated[
        bool,
        option(
            "--dry-run",
            help="Estimate the time and size of the run; write nothing.",
            panel=GENERAL,
        ),
    ] = False
    measure: Annotated[
        float | None,
        option(
            help="With --dry-run: run the pipeline for that many seconds, e.g. 60; default: time "
            "the first 32 samples.",
            panel=GENERAL,
            min=1,
            max=MAX_MEASURE_SECONDS,
        ),
    ] = None
    price_per_hour: Annotated[
        float | None,
        option(
            help="With --dry-run: price of the machine per hour, in any currency; prints the price "
            "of a million samples.",
            panel=GENERAL,
            min=0,
        ),
    ] = None
    benchmark: Annotated[
        bool,
        option(
            "--benchmark",
            help="Time decoding, transform, encoding and writing; keep no store.",
            panel=GENERAL,
        ),
    ] = False
    as_json: Json = False
    quiet: Quiet = False
