"""A shard as an Arrow table."""

import json
from typing import TYPE_CHECKING

from epalm.cache.maintenance.exports.export_format import ExportedShard
from epalm.errors import MissingToolError

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = "epalm"
"""Metadata entry of each file: the JSON object of `metadata_of`."""

SHAPE = "shape"
"""Metadata entry of the column `features`: [V, L, D] as JSON."""


def require_pyarrow(*, extra: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        MissingToolError: names the extra.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingToolError(
            f"an export to {extra} needs pyarrow: pip install 'epalm[{extra}]'"
        ) from error


def metadata_of(shard: ExportedShard, **more: object) -> dict[str, str]:
    """The metadata of a file: one entry, since safetensors writes several in any order.

    Args:
        shard: any shard of the store.
        more: what to add, as JSON values.

    Returns:
        `METADATA` -> a JSON object with `shape` ([V, L, D]), `spec` (every setting of the features
        by name, the fingerprint included) and `store` (the digest of settings and keys).
    """
    content = {
        "shape": list(shard.spec.row_shape),
        "spec": shard.spec.comparable(),
        "store": shard.store,
    }
    return {METADATA: json.dumps(content | more, sort_keys=True)}


def arrow_table(shard: ExportedShard) -> "pa.Table":
    """The columns key, valid, error and features of a shard, without a copy of the features.

    `features` has V * L * D numbers per row, as a list of fixed size; null for failed samples.
    `error` is null for all others.
    """
    import pyarrow as pa

    rows = len(shard.keys)
    features = pa.FixedSizeListArray.from_arrays(
        pa.array(shard.features.reshape(-1)),
        shard.features.size // rows,
        mask=pa.array(~shard.valid),
    )
    shape = {SHAPE: json.dumps(list(shard.spec.row_shape))}
    schema = pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("valid", pa.bool_(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("features", features.type, metadata=shape),
        ],
        metadata=metadata_of(shard),
    )
    errors = [shard.errors.get(key) for key in shard.keys]
    columns = [list(shard.keys), shard.valid, errors, features]
    return pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
