"""What a run writes, asks of an object store, and costs; arithmetic without measurements."""

from dataclasses import dataclass

from epalm.cache.formats.store_format import StoreFormat
from epalm.cache.spec import StoreSpec
from epalm.extract.estimate.gpu_speeds import GPU_SPEEDS

OWN_FILES = 2
"""Objects of a store besides those of its format and its shards: spec.json and errors.jsonl."""

SHARD_RECORDS = 2
"""Objects of a shard besides those of its format: commit record and media table."""

LISTINGS = 8
"""Listings per process."""

PAGE = 1000
"""Objects per request of a listing, on S3 and Google Cloud Storage."""

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Requests:
    """Requests to an object store; retries not included.

    Attributes:
        put: objects written.
        head: questions whether an object exists.
        get: objects read.
        list: pages of listings.
    """

    put: int
    head: int
    get: int
    list: int


@dataclass(frozen=True)
class GpuCost:
    """Time and price of a run on one GPU of a kind.

    Attributes:
        gpu: name of the GPU.
        per_second: samples per second.
        hours: hours for the whole run.
        decoders: CPU processes that decode as fast as the GPU encodes; None if unknown.
        per_million: price of a million samples; None without a price.
        source: where the speed comes from.
        measured: whether the source measured this kind of GPU, with another encoder.
    """

    gpu: str
    per_second: float
    hours: float
    decoders: float | None
    per_million: float | None
    source: str
    measured: bool


def count_objects(spec: StoreSpec, store_format: StoreFormat) -> int:
    """Number of files or objects of a finished store."""
    fixed = len(store_format.initial_files) + OWN_FILES
    return fixed + spec.shards * _shard_objects(store_format)


def count_requests(
    spec: StoreSpec, store_format: StoreFormat, *, new_rows: int, processes: int
) -> Requests:
    """The requests of a run.

    Args:
        spec: spec of the store.
        store_format: format of the store.
        new_rows: number of rows to encode.
        processes: number of processes that run together.
    """
    initial = len(store_format.initial_files)
    shards = -(-new_rows // spec.shard_rows)
    created = initial + OWN_FILES if new_rows == spec.count else 1
    pages = LISTINGS * -(-spec.shards // PAGE)
    return Requests(
        put=created + shards * _shard_objects(store_format),
        head=processes * (2 * initial + 5) + 2 * shards,
        get=processes * (2 + spec.shards),
        list=processes * pages,
    )


def _shard_objects(store_format: StoreFormat) -> int:
    return len(store_format.shard_files(0)) + SHARD_RECORDS


def price_per_million(per_second: float, price_per_hour: float) -> float:
    """Price of a million samples on a machine with this speed and price."""
    return 1e6 / per_second / SECONDS_PER_HOUR * price_per_hour


def gpu_costs(
    samples: int,
    flops: float,
    *,
    decode_seconds: float | None = None,
    price_per_hour: float | None = None,
) -> list[GpuCost]:
    """Time and price of a run on each kind of GPU.

    Args:
        samples: number of samples to encode.
        flops: FLOPs of all views of a sample.
        decode_seconds: time of one process to decode and transform all views of a sample.
        price_per_hour: price of a GPU with its machine; None if unknown.
    """
    costs = []
    for speed in GPU_SPEEDS:
        per_second = speed.flops_per_second / flops
        costs.append(
            GpuCost(
                gpu=speed.name,
                per_second=round(per_second, 1),
                hours=samples / per_second / SECONDS_PER_HOUR,
                decoders=None if decode_seconds is None else round(per_second * decode_seconds, 1),
                per_million=None
                if price_per_hour is None
                else price_per_million(per_second, price_per_hour),
                source=speed.source,
                measured=speed.measured,
            )
        )
    return costs


def break_even_epochs(
    encodings: int, examples: int, *, encode_seconds: float, read_seconds: float
) -> float | None:
    """Number of epochs, summed over all runs, after which a store saves time; None if never.

    A store takes encodings x encode_seconds once, then examples x read_seconds per epoch. Without
    one each epoch takes examples x encode_seconds.

    Args:
        encodings: number of samples times views that the store has.
        examples: number of training examples per epoch.
        encode_seconds: time to decode and encode one view.
        read_seconds: time to read one view from the store.
    """
    saved = examples * (encode_seconds - read_seconds)
    return encodings * encode_seconds / saved if saved > 0 else None
