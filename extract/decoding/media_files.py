"""The files of samples, and their media tables, which are filled during encoding."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from epalm.cache.records.file_state import MediaFile
from epalm.cache.records.media_table import MediaTable, describe_files
from epalm.extract.decoding.decode_batch import DecodeRequest
from epalm.tasks.types import MediaItem


def media_files(items: Iterable[MediaItem], root: Path) -> list[MediaFile]:
    """The files of samples; names of files below the data root are relative to it."""
    folders: dict[Path, tuple[str, str]] = {}
    files = []
    for item in items:
        if item.folder not in folders:
            folders[item.folder] = (str(item.folder), _relative(item.folder, root))
        folder, relative = folders[item.folder]
        names = (f"{folder}/{item.name}", os.path.join(relative, item.name))  # noqa: PTH118
        part = () if item.part is None else (item.part.offset, item.part.nbytes)
        files.append(MediaFile(*names, *part))
    return files


def record_files(
    batches: Iterable[Sequence[DecodeRequest]], table: MediaTable, *, root: Path
) -> Iterator[Sequence[DecodeRequest]]:
    """Pass on the batches of a shard, and record the files of each before it is decoded.

    Args:
        batches: requests, with view 0 of each sample before its other views.
        table: media table of the shard; the rows of the requests are filled in.
        root: data root.
    """
    for batch in batches:
        first = [request for request in batch if request.view == 0]
        files = media_files((request.item for request in first), root)
        described = describe_files(files, hashed=table.hashes is not None)
        table.put([request.row for request in first], described)
        yield batch


def _relative(folder: Path, root: Path) -> str:
    relative = os.path.relpath(folder, root)
    if relative.split(os.sep, 1)[0] == os.pardir:
        return str(folder.absolute())
    return "" if relative == os.curdir else relative
