"""The units of Parquet tables whose images are in a column: img2dataset, `datasets`, LAION."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from epalm.cache.index.index_builder import Unit
from epalm.cache.index.index_parts import CELLS, KEYED, FileEntry, SampleBatch
from epalm.errors import MalformedFileError, MissingToolError
from epalm.extract.indexing.input_files import TABLE_EXTENSION, InputFiles
from epalm.extract.indexing.units import UNIT_FILES, file_state
from epalm.tasks import manifest

if TYPE_CHECKING:
    import pyarrow.parquet as pq

BYTES_COLUMNS = ("jpg", "png", "webp", "image", "images", "img", "bytes", "image_bytes")
"""Names of columns with the bytes of images, the likeliest first; others are used if only one is
left."""

PATH_COLUMNS = ("path", "file_name", "file", "filename", "image_path", "image", "media")
"""Names of columns with the paths of local files."""

KEY_COLUMNS = ("key", "__key__")
"""Names of columns with a key that is unique in its table."""

TRIED_PATHS = 100
"""Paths of a table of which one must exist."""


class TableColumns(NamedTuple):
    """The columns of a table that are read.

    Attributes:
        content: column of the bytes, e.g. "jpg" or "image.bytes"; "" if there is none.
        paths: column of local paths, if there are no bytes; else "".
        key: column of the keys; "" for row numbers.
    """

    content: str
    paths: str
    key: str


def open_table(file: Path) -> "pq.ParquetFile":
    """Open a Parquet file.

    Raises:
        MissingToolError: pyarrow is not installed.
        MalformedFileError: the file is not Parquet.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingToolError(
            f"{file.name} is a Parquet table, which needs pyarrow: pip install 'epalm[parquet]'"
        ) from error
    with damage_explained(file):
        return pq.ParquetFile(file, memory_map=True)


@contextmanager
def damage_explained(file: Path) -> Iterator[None]:
    """Turn the errors of pyarrow on a damaged file into one that says what to do.

    Raises:
        MalformedFileError: the file is damaged.
    """
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())  # of several lines
        raise MalformedFileError(
            f"{file} is not a complete Parquet file ({reason}): download or write it again, or "
            "remove it"
        ) from error


def table_units(inputs: InputFiles) -> list[Unit]:
    """Units of tables.

    Raises:
        MalformedFileError: the first table has neither bytes nor paths of local files.
    """
    columns = find_columns(inputs.files[0], inputs.root)
    units = []
    for start in range(0, len(inputs.files), UNIT_FILES):
        files = inputs.files[start : start + UNIT_FILES]
        state = "\n".join(file_state(file, inputs.root) for file in files)
        units.append(Unit(f"{columns}\n{state}", partial(_batches, files, inputs.root, columns)))
    return units


def find_columns(file: Path, root: Path) -> TableColumns:
    """The columns of a table that are read.

    Raises:
        MalformedFileError: it has neither bytes nor paths of local files; says what to do.
    """
    with open_table(file) as table, damage_explained(file):
        leaves = {column.path: column.physical_type for column in table.schema}
        content = _content_column(leaves)
        key = next((name for name in KEY_COLUMNS if name in leaves), "")
        if content:
            return TableColumns(content, "", key)
        texts = [name for name, kind in leaves.items() if kind == "BYTE_ARRAY"]
        if paths := _path_column(table, texts, root):
            return TableColumns("", paths, "")
    has_urls = any("url" in name.lower() for name in leaves)
    advice = (
        "download its images with img2dataset (--output_format webdataset or parquet) and give "
        "the result"
        if has_urls
        else "give a table with the bytes of images, or with the paths of local files below "
        f"{root} in a column named {', '.join(PATH_COLUMNS[:3])}"
    )
    raise MalformedFileError(
        f"{file} has no column with the bytes of images, only {', '.join(leaves)}: {advice}"
    )


def _content_column(leaves: dict[str, str]) -> str:
    """The column of the bytes: a struct with bytes as `datasets` writes it, or a known name."""
    structs = [name for name in leaves if name.endswith(".bytes")]
    images = [name for name in structs if not name.startswith("audio")]
    if structs and not images:
        raise MalformedFileError(
            "the table has audio in a column: write each clip to a file, and a manifest of them"
        )
    if images:
        return images[0]
    known = [name for name in BYTES_COLUMNS if leaves.get(name) == "BYTE_ARRAY"]
    return next((name for name in known if name != "image"), "")


def _path_column(table: "pq.ParquetFile", texts: Sequence[str], root: Path) -> str:
    """A column whose first values name existing files."""
    for name in (name for name in PATH_COLUMNS if name in texts):
        batch = next(table.iter_batches(TRIED_PATHS, columns=[name]), None)
        values = batch.column(0).to_pylist() if batch is not None else []
        paths = [value for value in values if isinstance(value, str) and "://" not in value]
        if any((root / path).is_file() for path in paths):
            return name
    return ""


def _batches(files: Sequence[Path], root: Path, columns: TableColumns) -> Iterator[SampleBatch]:
    for file in files:
        with open_table(file) as table, damage_explained(file):
            present = {column.path for column in table.schema}
            wanted = {name for name in columns if name}
            if not wanted <= present:
                raise MalformedFileError(
                    f"{file} lacks the columns {', '.join(sorted(wanted - present))}, which the "
                    "first table has: give tables of one kind"
                )
            read = _path_batches if columns.paths else _cell_batches
            yield from read(table, file, root, columns)


def _path_batches(
    table: "pq.ParquetFile", file: Path, root: Path, columns: TableColumns
) -> Iterator[SampleBatch]:
    del root
    for batch in table.iter_batches(columns=[columns.paths]):
        keys = batch.column(0).to_pylist()
        for key in keys:
            if not isinstance(key, str) or not key.strip() or "\0" in key:
                raise MalformedFileError(f"{file}: {columns.paths} is {key!r}, expected a path")
            if manifest.MODALITY_OF.get(key[key.rfind(".") :].lower()) != "image":
                raise MalformedFileError(f"{file}: {key} does not end as the name of an image")
        yield SampleBatch(FileEntry(KEYED, ""), keys)


def _cell_batches(
    table: "pq.ParquetFile", file: Path, root: Path, columns: TableColumns
) -> Iterator[SampleBatch]:
    name, status, first = file.relative_to(root).as_posix(), file.stat(), 0
    stem = name.removesuffix(TABLE_EXTENSION)
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        entry = FileEntry(
            CELLS,
            name,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            row_group=group,
            column=columns.content,
        )
        keys = [str(number) for number in range(first, first + rows)]
        if columns.key:
            column = table.read_row_group(group, columns=[columns.key]).column(0)
            keys = [str(key) for key in column.to_pylist()]
        if rows:
            yield SampleBatch(entry, [f"{stem}/{key}" for key in keys], range(rows), [0] * rows)
        first += rows
