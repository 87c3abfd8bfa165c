"""A store on a local S3 server (moto's), as after an extraction to S3."""

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from epalm.cache.records.commit_record import CommitRecord
from epalm.cache.records.record_summary import SUMMARY_FILE, SummarizedRecord, summary_bytes
from epalm.cache.store import Store

BUCKET = "bench"


@contextmanager
def served_on_s3(folder: Path) -> Iterator[str]:
    """URL of a copy of a Zarr store in a folder, with the summary that `Store.finish` writes."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    try:
        fsspec.filesystem("s3").mkdir(BUCKET)
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for name, data in _files(folder):  # without requests, which would take minutes
            backend.put_object(BUCKET, f"{folder.name}/{name}", data)
        yield f"s3://{BUCKET}/{folder.name}"
    finally:
        server.stop()


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    store, summarized = Store.open(folder), dict[str, SummarizedRecord]()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield path.relative_to(folder).as_posix(), data
        if path.parent.name == "done":
            errors = CommitRecord.from_bytes(data, path.name).errors
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            summarized[path.stem] = SummarizedRecord(md5, errors)
    yield store.private_name(SUMMARY_FILE), summary_bytes(store.header.store, summarized)
