"""The files of samples, and their media records while they are encoded."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from epalm.cache.records.media_record import MediaFile, MediaRecord, describe_files
from epalm.extract.decoding.decode_pool import DecodeRequest
from epalm.tasks.types import MediaItem


def media_files(items: Iterable[MediaItem], root: Path) -> list[MediaFile]:
    """Where the bytes of samples are; names are relative to the data root where they are in it."""
    folders: dict[Path, tuple[str, str]] = {}
    files = []
    for item in items:
        if item.folder not in folders:
            folders[item.folder] = (str(item.folder), _relative(item.folder, root))
        folder, named = folders[item.folder]
        place = (f"{folder}/{item.name}", os.path.join(named, item.name))  # noqa: PTH118
        files.append(MediaFile(*place) if item.part is None else MediaFile(*place, *item.part))
    return files


def described(
    batches: Iterable[Sequence[DecodeRequest]], record: MediaRecord, *, root: Path
) -> Iterator[Sequence[DecodeRequest]]:
    """The same batches of one shard; the files of each are described before it is decoded.

    Args:
        batches: each sample's view 0 before its other views.
        record: of the shard; the rows of the requests are filled in.
        root: data root.
    """
    for batch in batches:
        first = [request for request in batch if request.view == 0]
        files = media_files((request.item for request in first), root)
        found = describe_files(files, hashed=record.hashes is not None)
        record.put([request.row for request in first], found)
        yield batch


def _relative(folder: Path, root: Path) -> str:
    named = os.path.relpath(folder, root)
    if named.split(os.sep, 1)[0] == os.pardir:
        return str(folder.absolute())
    return "" if named == os.curdir else named
