"""The extraction log next to a store."""

from pathlib import Path

import pytest

from epalm.cache.records.extraction_log import (
    ExtractionLogEntry,
    delete_extraction_log,
    log_extraction,
    read_extraction_log,
)
from epalm.errors import MalformedFileError

FIRST = ExtractionLogEntry(encoded=10, seconds=2.5, memory=300, device="cpu")


def test_entries_of_several_processes_are_added_up(tmp_path: Path) -> None:
    store = str(tmp_path / "a.zarr")
    assert read_extraction_log(store) is None
    log_extraction(store, FIRST)
    log_extraction(store, ExtractionLogEntry(5, 1.0, 200, "cuda", 70))
    assert read_extraction_log(store + "/") == ExtractionLogEntry(15, 3.5, 300, "cuda", 70)


def test_a_process_that_encoded_nothing_writes_no_line(tmp_path: Path) -> None:
    log_extraction(str(tmp_path / "a.zarr"), ExtractionLogEntry(0, 0.1, 300, "cpu"))
    assert list(tmp_path.iterdir()) == []


def test_the_log_is_deleted_with_the_store(tmp_path: Path) -> None:
    store = str(tmp_path / "a.zarr")
    log_extraction(store, FIRST)
    delete_extraction_log(store)
    delete_extraction_log(store)
    assert read_extraction_log(store) is None


def test_stores_at_a_url_have_no_log() -> None:
    log_extraction("s3://bucket/a.zarr", FIRST)
    assert read_extraction_log("s3://bucket/a.zarr") is None


@pytest.mark.parametrize("text", ["{", "", '{"encoded": 1}\n', "[]\n"])
def test_a_damaged_log_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.zarr.log.jsonl").write_text(text)
    with pytest.raises(MalformedFileError, match=r"a\.zarr\.log\.jsonl is not an extraction log"):
        read_extraction_log(str(tmp_path / "a.zarr"))
