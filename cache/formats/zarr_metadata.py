"""The parts of a Zarr store that the zarr library writes and reads: array metadata and keys."""

import json
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import zarr
from zarr.storage import MemoryStore

from epalm.cache.formats.keys.packed_keys import PackedKeys
from epalm.cache.formats.keys.stored_table import with_stored_table
from epalm.cache.formats.store_format import Content
from epalm.cache.index.index_keys import IndexKeys
from epalm.cache.spec import CHUNK_ROWS, StoreSpec
from epalm.cache.storage.checksum import size_and_checksum
from epalm.cache.storage.regular_file import read_or_map
from epalm.cache.storage.storage import Storage


def encode_group(
    spec: StoreSpec, keys: Sequence[str], *, private: str, separator: Literal["/", "."] = "/"
) -> dict[str, Content]:
    """Metadata of the group and its arrays, and the chunk of the keys.

    Args:
        spec: spec of the store.
        keys: the key of every row.
        private: name of the subgroup for our own files.
        separator: "/" names the chunk of the keys keys/c/0, "." names it keys/c.0.
    """
    files: dict[str, Any] = {}
    attributes = {"dataset": spec.dataset, "encoder": spec.encoder, "layers": list(spec.layers)}
    group = zarr.create_group(MemoryStore(files), attributes=attributes)
    _create_arrays(group, spec)
    key_array = group.create_array(
        "keys",
        shape=(spec.count,),
        chunks=(spec.count,),
        dtype="string",
        compressors=None,
        chunk_key_encoding={"name": "default", "separator": separator},
    )
    lazy: dict[str, Content] = {}
    if isinstance(keys, IndexKeys):
        lazy[f"keys/c{separator}0"] = keys.chunk
    else:
        key_array[:] = np.array(keys, dtype=np.dtypes.StringDType())
    group.create_group(private)
    return {name: data.to_bytes() for name, data in files.items()} | lazy


def read_keys(storage: Storage, count: int, checksum: str, name: str) -> PackedKeys:
    """The key of every row, from the two files of that array.

    Args:
        storage: storage of the store.
        count: number of rows.
        checksum: recorded CRC-32C of the chunk, which names the local copy of a remote one.
        name: digest of the keys, which names their stored look-up table.

    Raises:
        ValueError: `keys` is not a plain array of `count` strings. In files from somebody else it
            could decompress to any size, with any installed codec.
    """
    metadata = storage.read("keys/zarr.json")
    chunk = read_or_map(storage.fetch("keys/c/0", checksum))
    _check_plain(json.loads(metadata), count)
    if size_and_checksum([chunk])[1] != checksum:
        return PackedKeys.from_vlen(chunk, count)
    keys = with_stored_table(chunk, count, name)
    keys.checked = True
    return keys


def _check_plain(metadata: Any, count: int) -> None:  # noqa: ANN401
    """Refuse metadata that `encode_group` would not write."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [count]}}
    expected = {"zarr_format": 3, "node_type": "array", "shape": [count], "chunk_grid": grid}
    expected["data_type"] = "string"
    if not isinstance(metadata, dict) or not expected.items() <= metadata.items():
        raise ValueError(f"keys is not an array of {count} strings")
    codecs = metadata.get("codecs")
    names = [codec.get("name") for codec in codecs if isinstance(codec, dict)] if codecs else []
    if names != ["vlen-utf8"] or metadata.get("storage_transformers"):
        raise ValueError("keys has other codecs than vlen-utf8")


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
