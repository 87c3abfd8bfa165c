"""Read, map and write the files of an index; what is damaged is refused."""

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from epalm.atomic_write import sync
from epalm.cache.storage.checksum import Part, buffer_of
from epalm.cache.storage.regular_file import open_regular
from epalm.errors import CorruptShardError, StoreError

INDEX_FILE = "index.json"
"""The file that is written last: an index without it is not complete."""

INDEX_SUFFIX = ".index"
"""The index of a store is beside it: coco_vitb16.zarr.index."""


def default_index(out: str) -> Path:
    """The folder of the index of a store; that of a store at a URL is in the folder `cache`."""
    if "://" in out:
        return Path("cache") / f"{out.rstrip('/').rsplit('/', 1)[-1]}{INDEX_SUFFIX}"
    return Path(f"{out.rstrip('/')}{INDEX_SUFFIX}")


def damaged_index(folder: Path, problem: str) -> CorruptShardError:
    """The error for an index with a damaged or missing file."""
    return CorruptShardError(
        f"the index {folder} is damaged ({problem}): build it again with `epalm-extract plan "
        "--fresh` and the same --dataset and --index"
    )


def read_file(folder: Path, name: str) -> bytes:
    """All bytes of a regular file of an index.

    Raises:
        CorruptShardError: the file is missing.
        StoreError: it cannot be read.
    """
    try:
        with open(open_regular(folder / name), "rb") as file:  # noqa: PTH123 - a descriptor
            return file.read()
    except FileNotFoundError as error:
        raise damaged_index(folder, f"{name} is missing") from error
    except OSError as error:
        raise StoreError(f"{folder / name} cannot be read ({error})") from error


def map_file(folder: Path, name: str, dtype: DTypeLike, count: int) -> NDArray[Any]:
    """Map a file of an index into memory as an array of `count` elements, read-only.

    Raises:
        CorruptShardError: the file is missing or has another size.
        StoreError: it cannot be read.
    """
    nbytes = np.dtype(dtype).itemsize * count
    try:
        with open(open_regular(folder / name), "rb") as file:  # noqa: PTH123 - a descriptor
            size = os.fstat(file.fileno()).st_size
            if size != nbytes or not nbytes:
                raise damaged_index(folder, f"{name} has {size} bytes, expected {nbytes}")
            # A plain array: each access to a memmap makes another memmap, which takes longer.
            mapped: NDArray[Any] = np.asarray(np.memmap(file, dtype, "r", shape=(count,)))
            return mapped
    except FileNotFoundError as error:
        raise damaged_index(folder, f"{name} is missing") from error
    except OSError as error:
        raise StoreError(f"{folder / name} cannot be read ({error})") from error


def write_atomically(path: Path, *parts: Part) -> None:
    """Write a file under a temporary name, flush it to the disk, and rename it.

    Raises:
        StoreError: the file cannot be written, e.g. on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.new")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(buffer_of(part))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreError(
            f"{path} could not be written ({error}): free some space or give write access, then "
            "run the same command again; finished parts are kept"
        ) from error
