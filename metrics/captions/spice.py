"""SPICE by its authors' Java program, once its parser has been installed."""

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
from epalm.metrics.metric_registry import Scores

SOURCE = "https://nlp.stanford.edu/software/stanford-corenlp-full-2015-12-09.zip"
"""The archive of Stanford CoreNLP 3.6.0, the parser that SPICE was published with."""

JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
"""What SPICE needs of it; its manifest looks for them in the folder `lib` beside it."""

INSTALL = "epalm-eval install-spice"

JAVA_VARIABLE = "EPALM_SPICE_JAVA"
"""Environment variable: the `java` for SPICE, where another one is on the PATH."""

JAVA_VERSIONS = (8, 14)
"""The program was compiled for 8 and writes with the JavaScript engine that 15 no longer has."""

_HEAP = "-Xmx8G"
"""As the COCO toolkit starts it."""

_LIMIT_SECONDS, _LIMIT_SECONDS_EACH = 600.0, 0.5
"""For loading the parser, and for each caption and reference on top."""

_PATIENCE_SECONDS = 60.0
"""Without a byte of a download."""

_PIECE_BYTES = 1 << 20

_PROTOCOLS = ("https", "http", "file")


def spice_folder() -> Path:
    """The folder of the program, inside the installed toolkit."""
    from pycocoevalcap.spice import spice

    return Path(spice.__file__).parent


def check_spice() -> str:
    """The `java` that SPICE can run with.

    Raises:
        MissingToolError: something is not installed; says what.
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
    """SPICE of tokenised captions, which is a mean over them.

    Raises:
        MissingToolError: see `check_spice`.
        EpalmError: the program failed or took too long.
    """
    from pycocoevalcap.spice import spice

    java, jar = check_spice(), spice_folder() / spice.SPICE_JAR
    rows = [
        {"image_id": row, "test": said, "refs": references[row]}
        for row, (said,) in hypotheses.items()
    ]
    sentences = len(rows) + sum(map(len, references.values()))
    with TemporaryDirectory() as folder:
        given, written = Path(folder) / "captions.json", Path(folder) / "scores.json"
        given.write_text(json.dumps(rows), encoding="ascii")
        run_java(
            [java, _HEAP, "-jar", str(jar), str(given), "-out", str(written), "-subset", "-silent"],
            what="the SPICE program",
            limit_seconds=_LIMIT_SECONDS + _LIMIT_SECONDS_EACH * sentences,
        )
        each = _each(written, len(rows))
    return Scores({"SPICE": float(each.mean())}, {"SPICE": each}, headline="SPICE")


def _each(file: Path, count: int) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The F-score over all tuples of each row."""
    try:
        found = {
            one["image_id"]: float(one["scores"]["All"]["f"])
            for one in json.loads(file.read_text(encoding="utf-8"))
        }
        return np.array([found[row] for row in range(count)])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise EpalmError(
            f"the SPICE program wrote no score for every caption ({error!r})"
        ) from error


def install_spice(source: str = SOURCE, *, tick: Callable[[int], None]) -> list[Path]:
    """Put the parser where the toolkit looks for it; one time; no score downloads anything.

    Args:
        source: URL, or path of a file, of the archive.
        tick: called with the number of bytes as they come.

    Returns:
        The files; both whole, or none.

    Raises:
        DataError: the source cannot be read, broke off or is no such archive.
        UsageError: its address has an unknown protocol.
        EpalmError: the toolkit's folder cannot be written, or is full.
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
            f"{library} cannot be written ({error.strerror}): make place for 1 GB, run `{INSTALL}` "
            "as its owner, or install epalm into an environment of your own"
        ) from error
    return [library / name for name in JARS]


def archive_bytes(source: str) -> int:
    """The size of what `install_spice` will fetch; 0 if the server does not say.

    Raises:
        DataError: the source cannot be read.
    """
    with _opened(source) as stream:
        return _promised(stream)


def _fetch(source: str, file: Path, tick: Callable[[int], None]) -> None:
    with _opened(source) as stream, file.open("wb") as out:
        try:
            for piece in iter(lambda: stream.read(_PIECE_BYTES), b""):
                out.write(piece)
                tick(len(piece))
        except (OSError, ValueError, HTTPException) as error:
            raise DataError(f"{source} broke off ({error}): run `{INSTALL}` again") from error
        found, wanted = out.tell(), _promised(stream)
    if found < wanted:  # a server that goes away ends a stream as if it were whole
        raise DataError(
            f"{source} broke off after {found} of {wanted} bytes: run `{INSTALL}` again"
        )


def _opened(source: str) -> Any:  # noqa: ANN401 - what urlopen gives depends on the URL
    url = source if "://" in source else Path(source).absolute().as_uri()
    if urllib.parse.urlsplit(url).scheme not in _PROTOCOLS:
        raise UsageError(
            f"--source {source} is no address that can be read: wanted {', '.join(_PROTOCOLS)} "
            "before ://, or the path of a file"
        )
    try:
        return urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS)
    except (OSError, ValueError, HTTPException) as error:
        raise DataError(
            f"{source} cannot be read ({error}): name a mirror, or a file fetched elsewhere, with "
            f"`{INSTALL} --source`"
        ) from error


def _promised(stream: Any) -> int:  # noqa: ANN401 - likewise
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
        raise DataError(f"{source} is no archive with {name} ({error}), wanted {SOURCE}") from error


def _member(names: Iterable[str], name: str) -> str:
    found = [one for one in names if one.rsplit("/", 1)[-1] == name]
    if not found:
        raise KeyError(name)
    return found[0]
