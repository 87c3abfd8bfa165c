"""The summary of commit records saves requests, and the records alone decide."""

import logging
import re

import pytest

from epalm.cache.create_store import create_store
from epalm.cache.records.record_summary import SummarizedRecord, parse_summary, summary_bytes
from epalm.cache.store import Store
from epalm.errors import CorruptShardError, StoreError
from tests.cache.helpers import BROKEN, KEYS, fill, finished_store, random_features, spec

SUMMARY = "epalm/summary.jsonl"
RECORDS = {"00000": SummarizedRecord("0" * 32, {}), "00001": SummarizedRecord("1" * 32, {"é": "?"})}


def test_every_change_of_a_summary_is_noticed() -> None:
    data = summary_bytes("ab", RECORDS)
    assert parse_summary(data, "ab") == RECORDS
    assert parse_summary(data, "cd") == {}
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        assert parse_summary(bytes(changed), "ab") == {}
    assert parse_summary(b"", "ab") == {}


def test_a_store_in_a_folder_has_no_summary(tmp_path: object) -> None:
    assert SUMMARY not in finished_store(f"{tmp_path}/s.zarr").storage.names("")


def reads_of(caplog: pytest.LogCaptureFixture, store: Store) -> tuple[dict[str, str], list[str]]:
    """The failed samples of a store, and the names of the files that were read for them."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "s3fs"):
        failed = store.failed_samples()
    calls = [record.getMessage() for record in caplog.records if record.name == "s3fs"]
    reads = [
        re.search(r"'Key': '[^']*epalm/([^']*)'", call) for call in calls if "get_object" in call
    ]
    return failed, sorted(match[1] for match in reads if match)


def test_only_records_that_the_summary_does_not_have_are_read(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = finished_store(f"{bucket}/s.zarr")
    expected = {BROKEN: "truncated"}
    assert reads_of(caplog, store) == (expected, ["summary.jsonl"])
    store.uncommit_shard(0)
    assert reads_of(caplog, store) == (expected, ["summary.jsonl"])
    assert store.missing_shards() == [0]
    store.write_shard(0, random_features()[:64], {KEYS[3]: "unreadable"})
    assert reads_of(caplog, store) == (
        {KEYS[3]: "unreadable"} | expected,
        ["done/00000.json", "summary.jsonl"],
    )
    store.finish()
    assert reads_of(caplog, store)[1] == ["summary.jsonl"]


def test_a_damaged_or_foreign_summary_costs_requests_only(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = finished_store(f"{bucket}/s.zarr")
    every = [f"done/0000{shard}.json" for shard in range(3)]
    other = finished_store(f"{bucket}/other.zarr", fingerprint={"weights": "bb"})
    for data in (b"damaged", other.storage.read(SUMMARY)):
        store.storage.put(SUMMARY, [data])
        assert reads_of(caplog, store) == ({BROKEN: "truncated"}, [*every, "summary.jsonl"])
    store.storage.delete([SUMMARY])
    assert reads_of(caplog, store)[0] == {BROKEN: "truncated"}


def test_the_summary_of_an_earlier_writer_is_not_trusted_over_the_records(bucket: str) -> None:
    store = fill(create_store(f"{bucket}/s.zarr", spec(), KEYS), [1])
    store.write_summary()
    early = store.storage.read(SUMMARY)
    fill(store)
    store.finish()
    store.storage.put(SUMMARY, [early])  # a slower process finishes its own write now
    assert store.failed_samples() == {BROKEN: "truncated"}
    assert store.missing_shards() == []
    store.storage.put("epalm/done/00002.json", [b"damaged"])
    with pytest.raises(CorruptShardError, match=r"done/00002.json is damaged"):
        store.failed_samples()


def test_a_finished_store_in_a_bucket_without_write_access_is_finished_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = finished_store(f"{bucket}/s.zarr")
    assert store.list_records().md5

    def refuse(_self: object, name: str, _parts: object) -> None:
        raise StoreError(f"{name} is forbidden")

    monkeypatch.setattr(type(store.storage), "put", refuse)
    assert store.finish() == 1
    store.storage.delete([SUMMARY])
    with pytest.raises(StoreError, match=r"summary\.jsonl is forbidden"):
        store.finish()
