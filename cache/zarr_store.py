"""A feature store as one Zarr v3 group that any Zarr reader opens.

    coco_vitb16.zarr/            the Zarr group
      cls/    (N, V, L, D)       shards of `shard_rows` rows, inner chunks of 64, no codec, fill NaN
      keys/   (N,) string        one chunk, written when the store is created
      valid/  (N,) bool          one chunk per shard
      epalm/spec.json            what the vectors are
      epalm/done/00012.json      commit record of shard 12, written after its files
      epalm/errors.jsonl         records that could not be encoded, written when all is done

A shard is written whole in a private folder, hashed, flushed and renamed into place, because
zarr-python reads an existing shard back even when all of it is overwritten. Only a commit record
makes it count, so a killed writer loses at most the shard in hand. There is no lock: two writers
of one shard produce the same bytes.
"""

import json
import math
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from epalm.cache.durable import crc32c_of, move_file, private_folder, sync, write_file
from epalm.cache.spec import CHUNK_ROWS, StoreSpec
from epalm.cache.store import Tokens
from epalm.errors import CacheMismatchError, CorruptShardError, StoreError

PRIVATE = "epalm"
"""Folder inside the group that holds spec, commit records and errors.jsonl."""


@dataclass(frozen=True)
class CommitRecord:
    """Proof that a shard is on the disk.

    Attributes:
        rows: number of records in the shard.
        files: path relative to the store -> [bytes, CRC-32C].
        errors: key -> reason, for records that could not be encoded.
    """

    rows: int
    files: dict[str, tuple[int, str]]
    errors: dict[str, str]


class ZarrStore:
    """A store on a local or shared file system; see the module's head for its layout."""

    def __init__(self, path: Path, spec: StoreSpec) -> None:
        self.path = path
        self.spec = spec

    @classmethod
    def create(cls, path: Path, spec: StoreSpec, keys: Sequence[str]) -> Self:
        """Create the store, or reopen the one that is there.

        Raises:
            CacheMismatchError: `path` holds a store of other settings or other records.
            StoreError: `path` holds something else, or cannot be written; wrong or repeated keys.
        """
        if len(keys) != spec.count or len(set(keys)) != len(keys):
            raise StoreError(
                f"{len(keys)} keys ({len(set(keys))} distinct) for {spec.count} records"
            )
        if not path.exists():
            _create_group(path, spec, keys)
        store = cls.open(path)
        mend = "Choose another --out, or start over with --fresh."
        store.spec.check_same(spec, where=str(path), mend=mend)
        if store.keys != tuple(keys):
            raise CacheMismatchError(f"{path} holds other records than the data set. {mend}")
        return store

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store, finished or not.

        Raises:
            StoreError: nothing is there, or it is no feature store.
        """
        spec_file = path / PRIVATE / "spec.json"
        if not spec_file.is_file():
            found = "no feature store" if path.exists() else "nothing"
            raise StoreError(
                f"found {found} at {path}: run `epalm-extract` first, or correct the path"
            )
        return cls(path, StoreSpec.from_json(spec_file.read_text(encoding="utf-8")))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The key of every row."""
        return tuple(str(key) for key in np.asarray(_array(self.path, "keys")[:]))

    def record(self, shard: int) -> CommitRecord | None:
        """The shard's commit record, or none while it is missing."""
        file = self._record_file(shard)
        if not file.is_file():
            return None
        fields: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        files = {name: (size, crc) for name, (size, crc) in fields["files"].items()}
        return CommitRecord(rows=fields["rows"], files=files, errors=fields["errors"])

    def missing(self) -> list[int]:
        """Shards without a commit record, ascending."""
        done = {entry.name for entry in (self.path / PRIVATE / "done").iterdir()}
        return [n for n in range(self.spec.shards) if self._record_file(n).name not in done]

    def write(self, shard: int, tokens: Tokens, errors: Mapping[str, str]) -> None:
        """Store one whole shard, then its commit record; see `FeatureSink.write`."""
        rows = self.spec.rows_of(shard)
        valid = np.array([self.keys[row] not in errors for row in rows])
        stored = self._cast(tokens, valid, rows)
        try:
            with private_folder(self.path / PRIVATE) as folder:
                _write_shard(folder, self.spec, stored, valid)
                files = self._publish(folder, shard)
            record = CommitRecord(rows=len(rows), files=files, errors=dict(sorted(errors.items())))
            write_file(self._record_file(shard), _dump(asdict(record)))
        except OSError as error:
            raise StoreError(
                f"shard {shard} of {self.path} could not be written ({error}): make room or give "
                "write access, then run the same command again; finished shards are kept"
            ) from error

    def finish(self) -> int:
        """Write errors.jsonl once no shard is missing; the number of failed records."""
        if self.missing():
            raise StoreError(f"{self.path} still misses {len(self.missing())} shards")
        failed: dict[str, str] = {}
        for shard in range(self.spec.shards):
            record = self.record(shard)
            failed |= record.errors if record else {}
        lines = [json.dumps({"key": key, "error": why}) + "\n" for key, why in failed.items()]
        write_file(self.errors_file, "".join(lines))
        return len(failed)

    @property
    def errors_file(self) -> Path:
        """Where the failed records are listed."""
        return self.path / PRIVATE / "errors.jsonl"

    def read_shard(self, shard: int, out: Tokens) -> None:
        """Read one shard straight from its file into `out`, checking the bytes on the way.

        Args:
            shard: its number.
            out: (rows of the shard, V, L, D), the store's dtype, C-contiguous.

        Raises:
            CorruptShardError: the files do not match the commit record.
        """
        record = self.record(shard)
        if record is None:
            raise StoreError(f"shard {shard} of {self.path} is missing: extract again")
        self.check_files(shard, record)
        with (self.path / _cls_file(shard)).open("rb") as file:
            if file.readinto(out.data.cast("B")) != out.nbytes:
                raise CorruptShardError(f"shard {shard} of {self.path} is shorter than its rows")

    def check_files(self, shard: int, record: CommitRecord) -> None:
        """Compare size and checksum of a shard's files with its commit record.

        Raises:
            CorruptShardError: names the file and what differs.
        """
        for name, (size, checksum) in record.files.items():
            file = self.path / name
            found = file.stat().st_size if file.is_file() else -1
            if found != size or crc32c_of(file) != checksum:
                what = "is lost" if found < 0 else f"has {found} bytes" if found != size else ""
                raise CorruptShardError(
                    f"{file} {what or 'has changed bytes'}, the commit record says {size} bytes "
                    f"with CRC-32C {checksum}: delete {self._record_file(shard)} and run the same "
                    "extraction again"
                )

    def _record_file(self, shard: int) -> Path:
        return self.path / PRIVATE / "done" / f"{shard:05d}.json"

    def _cast(self, tokens: Tokens, valid: NDArray[np.bool_], rows: range) -> Tokens:
        wanted = (len(rows), *self.spec.row_shape)
        if tokens.shape != wanted:
            raise StoreError(f"tokens have shape {tokens.shape}, the shard holds {wanted}")
        limit = float(np.finfo(self.spec.dtype).max)
        peaks = np.abs(tokens).reshape(len(rows), -1).max(axis=1)
        unfit = valid & ~(peaks <= limit)
        if unfit.any():
            row = int(np.argmax(unfit))
            raise StoreError(
                f"{self.keys[rows[row]]} has a value of magnitude {peaks[row]:g}, {self.spec.dtype}"
                f" holds up to {limit:g}: extract with --dtype float32, or check the encoder's "
                "weights and --precision if it is not finite"
            )
        stored = np.full(wanted, np.nan, dtype=self.spec.dtype)
        stored[valid] = tokens[valid]
        return stored

    def _publish(self, folder: Path, shard: int) -> dict[str, tuple[int, str]]:
        files: dict[str, tuple[int, str]] = {}
        for made, name in (
            (folder / "cls/c/0/0/0/0", _cls_file(shard)),
            (folder / "valid/c/0", f"valid/c/{shard}"),
        ):
            files[name] = (made.stat().st_size, crc32c_of(made))
            move_file(made, self.path / name)
        return files


def _cls_file(shard: int) -> str:
    return f"cls/c/{shard}/0/0/0"


def _array(path: Path, name: str) -> "zarr.Array[Any]":
    array = zarr.open_group(path, mode="r")[name]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{path}/{name} is no array: the store is damaged, extract again")
    return array


def _dump(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True) + "\n"


def _create_group(path: Path, spec: StoreSpec, keys: Sequence[str]) -> None:
    """Make the empty store beside `path` and rename it into place; the first to rename wins."""
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(draft, mode="w-")
        _create_arrays(draft, spec, rows=spec.count)
        stored_keys = group.create_array(
            "keys", shape=(spec.count,), chunks=(spec.count,), dtype="string", compressors=None
        )
        stored_keys[:] = np.array(keys, dtype=np.dtypes.StringDType())
        group.create_group(PRIVATE)
        (draft / PRIVATE / "done").mkdir()
        write_file(draft / PRIVATE / "spec.json", spec.to_json())
        _rename_first(draft, path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be created ({error}): give --out a writable folder"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _rename_first(draft: Path, path: Path) -> None:
    try:
        draft.rename(path)
    except OSError:
        if not (path / PRIVATE / "spec.json").is_file():
            raise
    sync(path.parent)


def _create_arrays(
    folder: Path, spec: StoreSpec, rows: int
) -> tuple["zarr.Array[Any]", "zarr.Array[Any]"]:
    group = zarr.open_group(folder, mode="a")
    row_shape = spec.row_shape
    cls = group.create_array(
        "cls",
        shape=(rows, *row_shape),
        shards=(spec.shard_rows, *row_shape),
        chunks=(CHUNK_ROWS, *row_shape),
        dtype=spec.dtype,
        fill_value=math.nan,
        compressors=None,
        dimension_names=("record", "view", "layer", "width"),
        config={"write_empty_chunks": True},
    )
    valid = group.create_array(
        "valid",
        shape=(rows,),
        chunks=(spec.shard_rows,),
        dtype="bool",
        fill_value=False,
        compressors=None,
        config={"write_empty_chunks": True},
    )
    return cls, valid


def _write_shard(folder: Path, spec: StoreSpec, tokens: Tokens, valid: NDArray[np.bool_]) -> None:
    cls, present = _create_arrays(folder, spec, rows=spec.shard_rows)
    padded = np.full((spec.shard_rows, *spec.row_shape), np.nan, dtype=spec.dtype)
    padded[: len(tokens)] = tokens
    cls[:] = padded
    present[:] = np.pad(valid, (0, spec.shard_rows - len(valid)))
