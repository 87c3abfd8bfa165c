"""A bucket of a local S3 server."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """URL of an S3 server in this process."""
    pytest.importorskip("s3fs", reason="stores on S3 need the extra `s3`")
    moto_server = pytest.importorskip("moto.server", reason="the server of these tests is moto's")
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URL of an empty bucket; copies of its shards are in a folder of the test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("EPALM_COPIES", str(tmp_path / "copies"))
    fsspec.filesystem("s3").clear_instance_cache()  # it may have other credentials
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(tmp_path.name.replace("_", "-"))
    return f"s3://{tmp_path.name.replace('_', '-')}"
