"""The bytes of a sample in a column of a Parquet table."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from epalm.errors import MalformedFileError, MediaError
from epalm.extract.indexing.table_units import damage_explained, open_table

READ_ROWS = 16
"""Rows that are read at a time: a row group may have gigabytes."""

OPEN_COLUMNS = 4
"""Row groups that a process reads at once."""


class TableCell(NamedTuple):
    """A value of a table that contains one image.

    Attributes:
        offset: row within the row group.
        nbytes: 0, since the size is not known before the value is read.
        row_group: number of the row group.
        column: path of the column, e.g. "image.bytes".
    """

    offset: int
    nbytes: int
    row_group: int
    column: str

    def read(self, path: Path) -> bytes:
        """The bytes.

        Raises:
            OSError: the file cannot be read.
            MediaError: the table is damaged, has no such row, or the row has no bytes.
        """
        try:
            value = _column(path, self.row_group, self.column).value(self.offset)
        except MalformedFileError as error:
            raise MediaError(str(error)) from error
        if not isinstance(value, bytes) or not value:
            raise MediaError(f"{path.name}, row {self.offset}: no bytes in {self.column}")
        return value


class _ColumnCursor:
    """Reads the values of a row group in the order of its rows; going back begins again."""

    def __init__(self, path: Path, row_group: int, column: str) -> None:
        self._place = (path, row_group, column)
        self._restart()

    def _restart(self) -> None:
        self._batches = self._read()
        self._rows: list[object] = []
        self._first = 0

    def _read(self) -> Iterator[list[object]]:
        path, row_group, column = self._place
        with open_table(path) as table, damage_explained(path):
            if not 0 <= row_group < table.num_row_groups:
                raise MediaError(f"{path.name} has no row group {row_group}")
            groups = table.iter_batches(READ_ROWS, row_groups=[row_group], columns=[column])
            for batch in groups:
                values = batch.column(0)
                yield (values.flatten()[0] if "." in column else values).to_pylist()

    def value(self, row: int) -> object:
        """The value of a row; None if it does not exist."""
        if row < self._first:
            self._restart()
        while row >= self._first + len(self._rows):
            self._first += len(self._rows)
            self._rows = next(self._batches, [])
            if not self._rows:
                return None
        return self._rows[row - self._first]


@lru_cache(OPEN_COLUMNS)
def _column(path: Path, row_group: int, column: str) -> _ColumnCursor:
    return _ColumnCursor(path, row_group, column)
