"""Keys that are missing: not written yet, or lost."""

from pathlib import Path

import pytest

from epalm.cache.create_store import create_store
from epalm.errors import CorruptShardError, UnfinishedStoreError
from tests.cache.helpers import KEYS, fill, reopen, spec


def test_missing_keys_are_not_written_yet_until_the_store_is_finished(tmp_path: Path) -> None:
    store = create_store(tmp_path / "s.zarr", spec(), KEYS)
    content = store.storage.read("keys/c/0")
    store.storage.delete(["keys/c/0"])
    with pytest.raises(UnfinishedStoreError, match="are not written yet"):
        _ = reopen(store).keys
    store.storage.put("keys/c/0", [content])
    assert reopen(store).keys == KEYS
    fill(store).finish()
    store.storage.delete(["keys/c/0"])
    with pytest.raises(CorruptShardError, match="keys cannot be read"):
        _ = reopen(store).keys
