"""`epalm-eval install-spice`: the parser of SPICE, out of an archive like the published one."""

import json
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from epalm.metrics.captions import spice
from tests.evaluate.helpers import call

FOLDER = "stanford-corenlp-full-2015-12-09"
"""All of the published archive lies in it."""

BESIDE = ("StanfordDependenciesManual.pdf", "stanford-corenlp-3.6.0-sources.jar", "ejml-0.23.jar")
"""Other files of the published archive."""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the program looks into, empty; there is no Java."""
    monkeypatch.setattr(spice, "spice_folder", lambda: tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(spice.JAVA_VARIABLE, raising=False)
    (tmp_path / "lib").mkdir()
    return tmp_path / "lib"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "corenlp.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as outer:
        outer.writestr(f"{FOLDER}/", "")
        for name in (*BESIDE, *reversed(spice.JARS)):
            with zipfile.ZipFile(tmp_path / name, "w") as jar:
                jar.writestr("name", name * 1000)
            outer.write(tmp_path / name, f"{FOLDER}/{name}")
    return file


@pytest.fixture
def half_a_server(archive: Path) -> Iterator[str]:
    """Address of one that promises the archive and goes away after half of it."""
    whole = archive.read_bytes()

    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: len(whole) // 2])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{archive.name}"
        server.shutdown()


def test_the_two_jars_are_installed_and_java_is_checked(
    library: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "install-spice", "--source", archive, "--quiet") == 0
    err = " ".join(capfd.readouterr().err.split())
    assert f"installed {library / spice.JARS[1]}" in err
    assert "SPICE still cannot run: there is no `java`" in err
    assert sorted(file.name for file in library.iterdir()) == sorted(spice.JARS)
    for file in library.iterdir():
        with zipfile.ZipFile(file) as jar:
            assert jar.read("name").decode() == file.name * 1000


def refused(monkeypatch: pytest.MonkeyPatch, library: Path, source: object) -> None:
    assert call(monkeypatch, "install-spice", "--source", source, "--quiet") == 1
    assert list(library.iterdir()) == []


def test_an_interrupted_download_is_reported_and_installs_nothing(
    library: Path,
    half_a_server: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    refused(monkeypatch, library, half_a_server)
    assert "broke off after" in capfd.readouterr().err


def test_a_damaged_archive_installs_nothing(
    library: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with zipfile.ZipFile(archive) as members:
        at = members.getinfo(f"{FOLDER}/{spice.JARS[1]}").header_offset
    damaged = bytearray(archive.read_bytes())
    start = at + 30 + len(f"{FOLDER}/{spice.JARS[1]}")
    damaged[start : start + 8] = b"\xff" * 8  # no block of deflated bytes begins so
    archive.write_bytes(damaged)
    refused(monkeypatch, library, archive)
    assert f"is not an archive that contains {spice.JARS[1]} (Error -3" in capfd.readouterr().err


def test_the_error_about_a_missing_archive_names_it(
    library: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    refused(monkeypatch, library, tmp_path / "absent.zip")
    assert "absent.zip cannot be read" in capfd.readouterr().err


def test_the_error_about_an_unwritable_library_names_it(
    library: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    library.rmdir()
    library.touch()
    assert call(monkeypatch, "install-spice", "--source", archive, "--quiet") == 1
    err = capfd.readouterr().err
    assert err.startswith(f"error: {library} cannot be written (Not a directory)")


def test_what_was_installed_is_listed_in_json(
    library: Path,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, "install-spice", "--source", archive, "--quiet", "--json") == 0
    actual = json.loads(capfd.readouterr().out)
    assert sorted(actual["installed"]) == sorted(str(library / name) for name in spice.JARS)
    assert actual["java"] is None
    assert "there is no `java`" in actual["problem"]
