import json
from collections.abc import Callable
from pathlib import Path

import pytest

from epalm.cache.index.index_header import UnitRecord
from epalm.cache.index.index_parts import SampleBatch
from epalm.cache.index.sample_index import SampleIndex
from epalm.cache.storage.checksummed_json import dump_checksummed, load_checksummed
from epalm.errors import CorruptShardError, StoreError
from tests.cache.index.index_units import KEYED_FILES, build, files_of, unit

KEYS = [f"k{n}" for n in range(9000)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path, unit("a", SampleBatch(KEYED_FILES, KEYS)))
    return tmp_path


def use(folder: Path) -> None:
    index = SampleIndex.open(folder)
    index.items(0, len(index))
    index.find(KEYS)
    index.check()


REBUILD = "is damaged .*build it again with `epalm-extract plan --fresh`"


def test_a_changed_byte_of_any_file_is_found(folder: Path) -> None:
    use(folder)
    for name, content in files_of(folder).items():
        for at in {0, len(content) // 2, len(content) - 1} if content else ():
            changed = bytearray(content)
            changed[at] ^= 1
            (folder / name).write_bytes(changed)
            with pytest.raises(CorruptShardError, match=REBUILD):
                use(folder)
        (folder / name).write_bytes(content)
    use(folder)


def test_a_short_or_missing_file_is_found(folder: Path) -> None:
    for name, content in files_of(folder).items():
        if not content or name == "index.json":
            continue
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(CorruptShardError, match=REBUILD):
            use(folder)
        (folder / name).unlink()
        with pytest.raises(CorruptShardError, match=REBUILD):
            use(folder)
        (folder / name).write_bytes(content)


def forged(folder: Path, change: Callable[[dict], None]) -> None:
    header = json.loads((folder / "index.json").read_bytes())
    del header["crc32c"]
    change(header)
    (folder / "index.json").write_bytes(dump_checksummed(header))


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(rows=10**12),
        lambda header: header.update(rows=0, table_rows=0, units=[]),
        lambda header: header.update(rows=9001, table_rows=9001),
        lambda header: header.update(table_rows=1),
        lambda header: header["units"][0].update(name="../../etc"),
        lambda header: header["units"][0].update(rows=[9000, -1, 1]),
        lambda header: header.update(units="none"),
    ],
)
def test_a_header_with_impossible_values_is_refused(
    folder: Path, change: Callable[[dict], None]
) -> None:
    forged(folder, change)
    with pytest.raises(CorruptShardError, match=REBUILD):
        use(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda part: part["files"][0].update(kind="link"),
        lambda part: part.update(name="../../etc"),
    ],
)
def test_a_record_with_an_unknown_kind_of_file_or_a_path_as_name_is_refused(
    folder: Path, change: Callable[[dict], None]
) -> None:
    file = folder / "units" / "000000.json"
    fields = load_checksummed(file.read_bytes(), "it")
    assert UnitRecord.from_bytes(dump_checksummed(fields), folder, "it").parts
    change(fields["parts"][0])
    with pytest.raises(CorruptShardError, match="unknown kinds of files or names of parts"):
        UnitRecord.from_bytes(dump_checksummed(fields), folder, "it")


def test_an_index_of_a_later_version_is_refused(folder: Path) -> None:
    forged(folder, lambda header: header.update(version=2))
    with pytest.raises(StoreError, match="has version 2, this release of epalm reads version 1"):
        SampleIndex.open(folder)


def test_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"index\.json is missing: run `epalm-extract plan`"):
        SampleIndex.open(tmp_path)
