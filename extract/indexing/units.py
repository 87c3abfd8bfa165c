"""The units of an index of a dataset: what one process reads at a time, see `IndexBuilder`."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from epalm.cache.index.index_builder import BATCH_ROWS, Unit
from epalm.cache.index.index_parts import BYTES, KEYED, WHOLE, FileEntry, SampleBatch
from epalm.cache.records.file_state import ABSENT
from epalm.errors import MalformedFileError
from epalm.extract.indexing.input_files import InputFiles, kind_of_file, mixed_kinds, walk
from epalm.tasks import manifest
from epalm.tasks.readers.manifest_rows import ManifestRow, read_rows
from epalm.tasks.readers.tar_shards import IMAGE_EXTENSIONS, TAR_EXTENSION
from epalm.tasks.streams.media_lines import MediaLines
from epalm.tasks.streams.tar_headers import list_members
from epalm.tasks.types import MediaItem, Modality

UNIT_BYTES = 1 << 26
"""Bytes of a JSONL file that one process reads at a time."""

UNIT_FILES = 16
"""Tar files or tables that one process reads at a time."""

OWN_FILES = FileEntry(KEYED, "")
"""Files of their own, whose keys are their paths below the data root."""


def manifest_units(inputs: InputFiles) -> tuple[list[Unit], Modality]:
    """Units of a manifest, and the modality of all its media.

    Raises:
        MalformedFileError: the first line is malformed.
    """
    first = next(iter(read_rows(inputs.files[0])))
    kind, modality = manifest.kind_of(first), manifest.modality_of(first)
    units = []
    for file in inputs.files:
        lines = MediaLines(file, kind, modality, inputs.files[0])
        size, state = file.stat().st_size, file_state(file, inputs.root)
        if file.suffix == ".csv":
            units.append(Unit(state, partial(_csv_batches, lines)))
            continue
        for start in range(0, max(size, 1), UNIT_BYTES):
            read = partial(_json_batches, lines, start, start + UNIT_BYTES)
            units.append(Unit(f"{state} from byte {start}", read))
    return units, modality


def _json_batches(lines: MediaLines, start: int, stop: int) -> Iterator[SampleBatch]:
    for media in lines.read(start, stop):
        yield SampleBatch(OWN_FILES, media)


def _csv_batches(lines: MediaLines) -> Iterator[SampleBatch]:
    media: list[str] = []
    row: ManifestRow
    for row in read_rows(lines.file):
        lines.check_row(row)
        media.append(row.media)
        if len(media) == BATCH_ROWS:
            yield SampleBatch(OWN_FILES, media)
            media = []
    yield SampleBatch(OWN_FILES, media)


def tar_units(inputs: InputFiles) -> list[Unit]:
    """Units of tar files of images in the WebDataset layout."""
    return [
        Unit(_states(files, inputs.root), partial(_tar_batches, files, inputs.root))
        for files in _groups(inputs.files)
    ]


def _tar_batches(files: Sequence[Path], root: Path) -> Iterator[SampleBatch]:
    for file in files:
        name = file.relative_to(root).as_posix()
        stem = name.removesuffix(TAR_EXTENSION)
        images = [
            member
            for member in list_members(file)
            if os.path.splitext(member.name)[1].lower() in IMAGE_EXTENSIONS  # noqa: PTH122
        ]
        status = file.stat()
        yield SampleBatch(
            FileEntry(BYTES, name, size=status.st_size, mtime_ns=status.st_mtime_ns),
            [f"{stem}/{member.name}" for member in images],
            [member.offset for member in images],
            [member.nbytes for member in images],
        )


def folder_units(inputs: InputFiles) -> tuple[list[Unit], Modality]:
    """The unit of a folder of media files, and the modality of all of them.

    Its state has the times of the folder and of the folders in it, so that a file in a deeper
    folder does not change it.
    """
    names = (name for _, names in walk(inputs.root) for name in names)
    modality: Modality = next(filter(None, map(_modality, names)))
    folders = [inputs.root, *(entry for entry in inputs.root.iterdir() if entry.is_dir())]
    read = partial(_media_batches, inputs.root, modality)
    return [Unit(_states(folders, inputs.root), read)], modality


def _media_batches(root: Path, modality: Modality) -> Iterator[SampleBatch]:
    for folder, names in walk(root):
        keys = [f"{folder}/{name}" if folder else name for name in names if kind_of_file(name)]
        for key in keys:
            if (other := _modality(key)) is None:
                raise mixed_kinds(root, f"files of {modality}", key)
            if other != modality:
                raise MalformedFileError(
                    f"{root} contains files of several modalities, e.g. {key} ({other}) beside "
                    f"{modality}: a store has one modality, so give a folder of one"
                )
        if keys:
            times, sizes = zip(*(_time_and_size(f"{root}/{key}") for key in keys), strict=True)
            yield SampleBatch(OWN_FILES, keys, times, sizes)


def _time_and_size(path: str) -> tuple[int, int]:
    """Modification time and size of a media file; 0 and ABSENT for a link that leads nowhere.

    Such a sample fails when it is encoded, as one of a manifest whose file is missing.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - millions of files
    except OSError:
        return 0, ABSENT
    return status.st_mtime_ns, status.st_size


def _modality(name: str) -> Modality | None:
    return manifest.MODALITY_OF.get(os.path.splitext(name)[1].lower())  # noqa: PTH122


def item_units(items: Sequence[MediaItem], root: Path, name: str) -> list[Unit]:
    """The unit of samples that are in memory, as those of the published datasets."""
    state = f"{name}, {len(items)} samples"
    return [Unit(state, partial(_item_batches, items, root))]


def _item_batches(items: Sequence[MediaItem], root: Path) -> Iterator[SampleBatch]:
    for start in range(0, len(items), BATCH_ROWS):
        samples = ((_entry(item, root), item) for item in items[start : start + BATCH_ROWS])
        for entry, group in groupby(samples, key=lambda sample: sample[0]):
            chosen = [item for _, item in group]
            parts = [item.part for item in chosen if item.part is not None]
            offsets, sizes = [part.offset for part in parts], [part.nbytes for part in parts]
            yield SampleBatch(entry, [item.key for item in chosen], offsets, sizes)


def _entry(item: MediaItem, root: Path) -> FileEntry:
    """The entry of the file of a sample; most samples share theirs."""
    folder = os.path.relpath(item.folder, root)
    name = item.name if folder == os.curdir else f"{folder}/{item.name}"
    if item.part is not None:
        return FileEntry(BYTES, name)
    before, key, after = name.rpartition(item.key) if item.key else ("", "", "")
    return FileEntry(KEYED, before, after) if key else FileEntry(WHOLE, name)


def file_state(file: Path, root: Path) -> str:
    """Name, size and modification time of a file or a folder, in words."""
    status = file.stat()
    return f"{file.relative_to(root).as_posix()} {status.st_size} bytes {status.st_mtime_ns} ns"


def _states(files: Sequence[Path], root: Path) -> str:
    return "\n".join(file_state(file, root) for file in sorted(files))


def _groups(files: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(files), UNIT_FILES):
        yield files[start : start + UNIT_FILES]
