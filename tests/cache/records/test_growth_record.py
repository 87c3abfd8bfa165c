"""The number of the last finished generation, in a file that anybody may have changed."""

from pathlib import Path

import pytest

from epalm.cache.records.growth_record import finished_bytes, read_finished
from epalm.cache.storage.checksummed_json import dump_checksummed
from epalm.cache.storage.local_storage import LocalStorage
from epalm.errors import CorruptShardError


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path, "put")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_generation_of_the_store_is_read_as_it_was_written(
    storage: LocalStorage, number: int
) -> None:
    storage.put("finished.json", [finished_bytes(number)])
    assert read_finished(storage, "finished.json", 3) == number


def test_without_the_file_the_first_generation_is_the_last_finished_one(
    storage: LocalStorage,
) -> None:
    assert read_finished(storage, "finished.json", 3) == 0


@pytest.mark.parametrize("number", [3, -1, 1.0, True, "1", None])
def test_another_number_is_refused(storage: LocalStorage, number: object) -> None:
    storage.put("finished.json", [dump_checksummed({"generation": number})])
    with pytest.raises(CorruptShardError, match=r"finished\.json names generation .* of 3"):
        read_finished(storage, "finished.json", 3)
