"""What zarr itself writes and reads of a Zarr store: the metadata of its arrays, and its keys."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore

from epalm.cache.spec import CHUNK_ROWS, StoreSpec
from epalm.cache.storage.storage import Storage


def group_files(
    spec: StoreSpec, keys: Sequence[str], *, names: Sequence[str], private: str
) -> dict[str, bytes]:
    """Metadata of the group and its arrays, and the chunk of the keys.

    Args:
        spec: of the store.
        keys: the key of every row.
        names: of the files.
        private: name of the group of our own files.
    """
    files: dict[str, Any] = {}
    about = {"dataset": spec.dataset, "encoder": spec.encoder, "layers": list(spec.layers)}
    group = zarr.create_group(MemoryStore(files), attributes=about)
    _create_arrays(group, spec)
    stored = group.create_array(
        "keys", shape=(spec.count,), chunks=(spec.count,), dtype="string", compressors=None
    )
    stored[:] = np.array(keys, dtype=np.dtypes.StringDType())
    group.create_group(private)
    return {name: files[name].to_bytes() for name in names}


def stored_keys(place: Storage, count: int) -> list[str]:
    """The key of every row, from the two files of that array.

    Args:
        place: of the store.
        count: number of rows.

    Raises:
        ValueError: the array is no plain one of so many texts. Zarr could have it unpack to any
            size, by any codec that is installed.
    """
    names = ("keys/zarr.json", "keys/c/0")
    about, texts = (place.read(name) for name in names)
    _check_plain(json.loads(about), texts, count)
    files: Any = {
        name: Buffer.from_bytes(data) for name, data in zip(names, (about, texts), strict=True)
    }
    array = zarr.open_array(MemoryStore(files, read_only=True), path="keys", mode="r")
    return [str(key) for key in np.asarray(array[:])]


def _check_plain(about: Any, texts: bytes, count: int) -> None:  # noqa: ANN401
    """Refuse other metadata than `group_files` makes of the keys, and another number of texts."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [count]}}
    wanted = {"zarr_format": 3, "node_type": "array", "shape": [count], "chunk_grid": grid}
    wanted["data_type"] = "string"
    if not isinstance(about, dict) or any(about.get(one) != wanted[one] for one in wanted):
        raise ValueError(f"keys is no array of {count} texts")
    codecs = about.get("codecs")
    named = [one.get("name") for one in codecs if isinstance(one, dict)] if codecs else []
    if named != ["vlen-utf8"] or about.get("storage_transformers"):
        raise ValueError("keys is stored in another way than by vlen-utf8 alone")
    if int.from_bytes(texts[:4], "little") != count:
        raise ValueError(f"the chunk of keys has another number of texts than {count}")


def _create_arrays(group: zarr.Group, spec: StoreSpec) -> None:
    group.create_array(
        "cls",
        shape=spec.shape,
        shards=(spec.shard_rows, *spec.row_shape),
        chunks=(CHUNK_ROWS, *spec.row_shape),
        dtype=spec.dtype,
        fill_value=math.nan,
        compressors=None,
        dimension_names=("record", "view", "layer" if spec.positions == 1 else "token", "width"),
    )
    group.create_array(
        "valid",
        shape=(spec.count,),
        chunks=(spec.shard_rows,),
        dtype="bool",
        fill_value=False,
        compressors=None,
    )
