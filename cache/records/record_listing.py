"""Which shards of a store have a commit record, from one listing of the folder of the records."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from epalm.cache.formats.generations import Generations, ShardVersion
from epalm.cache.spec import StoreSpec
from epalm.cache.storage.storage import FileInfo

CONFIRMED_SHARDS = 32
"""Missing shards that are looked for one by one if a listing lacks few."""


@dataclass(frozen=True)
class RecordListing:
    """The commit records that existed at one moment.

    Attributes:
        missing: numbers of the shards without one, ascending.
        finished: the version that is read of each other shard, in the order of the shards.
        md5: MD5 of the record of each finished shard, by shard; empty where a listing has none.
    """

    missing: list[int]
    finished: dict[int, ShardVersion]
    md5: Mapping[int, str]


def list_records(
    spec: StoreSpec, generations: Generations, files: Mapping[str, FileInfo], *, folder: str
) -> RecordListing:
    """Find the record of each shard.

    A version with more rows than the opened generation is read if that one is not there.

    Args:
        spec: spec of the opened generation.
        generations: generations of the store.
        files: listing of the folder of the records.
        folder: name of that folder.
    """
    files = {name.removeprefix(f"{folder}/").removesuffix(".json"): files[name] for name in files}
    missing: list[int] = []
    finished: dict[int, ShardVersion] = {}
    md5: dict[int, str] = {}
    for shard in range(spec.shards):
        version = _present(generations.versions(shard), len(spec.rows_of(shard)), files)
        if version is None:
            missing.append(shard)
            continue
        finished[shard] = version
        if digest := files[version.name].md5:
            md5[shard] = digest
    return RecordListing(missing, finished, md5)


def confirm_missing(
    listing: RecordListing, find: Callable[[int], ShardVersion | None]
) -> RecordListing:
    """A listing with the records that it lacks although they exist.

    Listings of shared folders and of some object stores show new files late. Without this the last
    process would find a shard missing that was just written, and nobody would finish the store.

    Args:
        listing: the listing. If it lacks many shards, these are encoded at the moment anyway.
        find: gives the finished version of a shard, from its record alone; None without one.
    """
    if not 0 < len(listing.missing) <= min(CONFIRMED_SHARDS, len(listing.finished)):
        return listing
    late = {shard: version for shard in listing.missing if (version := find(shard))}
    missing = [shard for shard in listing.missing if shard not in late]
    return RecordListing(missing, dict(sorted((listing.finished | late).items())), listing.md5)


def _present(
    versions: Iterable[ShardVersion], rows: int, files: Mapping[str, FileInfo]
) -> ShardVersion | None:
    """The version that `StoreState.finished_version` chooses; None if none is there."""
    usable = [one for one in versions if one.rows >= rows and one.name in files]
    exact = [one for one in usable if one.rows == rows]
    return exact[0] if exact else usable[-1] if usable else None
