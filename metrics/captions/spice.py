"""SPICE, computed by its authors' Java program, and the installation of its parser."""

import json
import os
import shutil
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from epalm.errors import DataError, EpalmError, MissingToolError, UsageError
from epalm.metrics.captions.caption_metrics import Sentences
from epalm.metrics.captions.java import find_java, java_version, run_java
from epalm.metrics.metric_registry import Scores, Values

SOURCE = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
"""The archive of Stanford CoreNLP 3.6.0, the parser that SPICE was published with."""

JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""Files of the archive that SPICE needs; it looks for them in the folder `lib` next to it."""

INSTALL = "epalm-eval install-spice"

JAVA_VARIABLE = "EPALM_SPICE_JAVA"
"""Environment variable: path of the `java` for SPICE; default is the one on the PATH."""

JAVA_VERSIONS = (8, 14)
"""Oldest and newest version of Java: the program was compiled for 8 and needs the JavaScript engine
that 15 removed."""

_HEAP = "-Xmx8G"
"""Maximum heap size, as in the COCO toolkit."""

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 600.0, 0.5
"""Time limit: for loading the parser, plus so much per caption and reference."""

_DOWNLOAD_TIMEOUT_SECONDS = 60.0
"""Longest wait for the next bytes of a download."""

_CHUNK_BYTES = 1 << 20

_PROTOCOLS = ("https", "http", "file")


def spice_folder() -> Path:
    """Folder of the SPICE program in the installed toolkit."""
    from pycocoevalcap.spice import spice

    return Path(spice.__file__).parent


def check_spice() -> str:
    """Path of a `java` that can run SPICE.

    Raises:
        MissingToolError: SPICE's parser or a suitable Java is not installed.
    """
    missing = [name for name in JARS if not (spice_folder() / "lib" / name).is_file()]
    if missing:
        raise MissingToolError(f"its parser is not installed: run `{INSTALL}` once (0.5 GB)")
    java = os.environ.get(JAVA_VARIABLE, "") or find_java()
    version, (oldest, newest) = java_version(java), JAVA_VERSIONS
    if not oldest <= version <= newest:
        raise MissingToolError(
            f"it runs on Java {oldest} to {newest}, and {java} is {version}: install one, e.g. "
            f"`conda create -n java11 -c conda-forge openjdk=11`, and set {JAVA_VARIABLE} to its "
            "bin/java"
        )
    return java


def score_spice(references: Sentences, hypotheses: Sentences) -> Scores:
    """SPICE of tokenized captions, a mean over the captions.

    Raises:
        MissingToolError: SPICE's parser or a suitable Java is not installed.
        EpalmError: the program failed or exceeded the time limit.
    """
    from pycocoevalcap.spice import spice

    java, jar = check_spice(), spice_folder() / spice.SPICE_JAR
    rows = [
        {"image_id": row, "test": hypothesis, "refs": references[row]}
        for row, (hypothesis,) in hypotheses.items()
    ]
    sentences = len(rows) + sum(map(len, references.values()))
    with TemporaryDirectory() as folder:
        captions, output = Path(folder) / "captions.json", Path(folder) / "scores.json"
        captions.write_text(json.dumps(rows), encoding="ascii")
        files = [str(captions), "-out", str(output)]
        run_java(
            [java, _HEAP, "-jar", str(jar), *files, "-subset", "-silent"],
            program="the SPICE program",
            limit_seconds=_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * sentences,
        )
        per_example = _f_scores(output, len(rows))
    return Scores({"SPICE": float(per_example.mean())}, {"SPICE": per_example}, headline="SPICE")


def _f_scores(file: Path, count: int) -> Values:
    """(count,) F-score over all tuples of each caption."""
    try:
        scores = {
            entry["image_id"]: float(entry["scores"]["All"]["f"])
            for entry in json.loads(file.read_text(encoding="utf-8"))
        }
        return np.array([scores[row] for row in range(count)])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EpalmError(
            f"the SPICE program did not write a score for every caption ({error!r})"
        ) from error


def install_spice(source: str = SOURCE, *, tick: Callable[[int], None]) -> list[Path]:
    """Install the parser into the folder of the toolkit; metrics never download anything.

    Args:
        source: URL or path of the archive.
        tick: called with the number of bytes of every chunk.

    Returns:
        The installed files; either both are installed or none.

    Raises:
        DataError: the source cannot be read, is incomplete, or is not the expected archive.
        UsageError: the URL has an unknown protocol.
        EpalmError: the toolkit's folder cannot be written, or the disk is full.
    """
    library = spice_folder() / "lib"
    try:
        with TemporaryDirectory(dir=library) as folder:
            archive = Path(folder) / "archive.zip"
            _fetch(source, archive, tick)
            for name in JARS:
                _extract(archive, name, Path(folder), source)
            for name in JARS:
                (Path(folder) / name).replace(library / name)
    except OSError as error:
        raise EpalmError(
            f"{library} cannot be written ({error.strerror}): free 1 GB of disk space, run "
            f"`{INSTALL}` as the owner of the folder, or install epalm into your own environment"
        ) from error
    return [library / name for name in JARS]


def archive_bytes(source: str) -> int:
    """Size of the archive that `install_spice` downloads; 0 if the server does not report it.

    Raises:
        DataError: the source cannot be read.
    """
    with _open_source(source) as stream:
        return _content_length(stream)


def _fetch(source: str, file: Path, tick: Callable[[int], None]) -> None:
    with _open_source(source) as stream, file.open("wb") as out:
        try:
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                out.write(chunk)
                tick(len(chunk))
        except (OSError, ValueError, HTTPException) as error:
            raise DataError(f"{source} broke off ({error}): run `{INSTALL}` again") from error
        received, expected = out.tell(), _content_length(stream)
    if received < expected:  # a lost connection ends the stream without an error
        raise DataError(
            f"{source} broke off after {received} of {expected} bytes: run `{INSTALL}` again"
        )


def _open_source(source: str) -> Any:  # noqa: ANN401 - the type that urlopen returns depends on the URL
    url = source if "://" in source else Path(source).absolute().as_uri()
    if urllib.parse.urlsplit(url).scheme not in _PROTOCOLS:
        raise UsageError(
            f"--source {source} has an unknown protocol: use {', '.join(_PROTOCOLS)}, or the path "
            "of a file"
        )
    try:
        return urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_SECONDS)
    except (OSError, ValueError, HTTPException) as error:
        raise DataError(
            f"{source} cannot be read ({error}): give a mirror, or a file downloaded elsewhere, "
            f"with `{INSTALL} --source`"
        ) from error


def _content_length(stream: Any) -> int:  # noqa: ANN401 - as above
    return int(stream.headers.get("Content-Length") or 0)


def _extract(archive: Path, name: str, folder: Path, source: str) -> None:
    try:
        with zipfile.ZipFile(archive) as members:
            member = _member(members.namelist(), name)
            with members.open(member) as packed, (folder / name).open("wb") as out:
                shutil.copyfileobj(packed, out)
        with zipfile.ZipFile(folder / name):
            return
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise DataError(
            f"{source} is not an archive that contains {name} ({error}): expected {SOURCE}"
        ) from error


def _member(names: Iterable[str], name: str) -> str:
    for member in names:
        if member.rpartition("/")[2] == name:
            return member
    raise KeyError(name)
