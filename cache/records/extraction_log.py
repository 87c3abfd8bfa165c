"""The extraction log next to a store: time and memory that its extraction required.

The log is a separate file, so that the bytes of a store do not depend on how it was made. Each
process that encoded samples appends a line to `<store>.log.jsonl`. For each sample that was decoded
only in part it appends a line to `<store>.incomplete.txt`. Stores at a URL have neither file.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from epalm.atomic_write import named
from epalm.errors import MalformedFileError
from epalm.terminal import visible
from epalm.untrusted.checked_json import build, read_json_lines


@dataclass(frozen=True)
class ExtractionLogEntry:
    """Time and memory required by one process, or by several together.

    Attributes:
        encoded: number of encoded samples.
        seconds: wall time; for several processes the sum.
        memory: peak main memory in bytes, without the decoding processes; for several processes the
            maximum.
        device: device of the encoder, e.g. "cpu".
        device_memory: peak GPU memory in bytes; 0 without a GPU.
    """

    encoded: int
    seconds: float
    memory: int
    device: str
    device_memory: int = 0


def log_file(store: str) -> Path | None:
    """The log next to a store; None for a URL."""
    return None if "://" in store else Path(f"{store.rstrip('/')}.log.jsonl")


def log_extraction(store: str, entry: ExtractionLogEntry) -> None:
    """Append a line, if any sample was encoded."""
    file = log_file(store)
    if file and entry.encoded:
        with named(file), file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(entry)) + "\n")


def incomplete_file(store: str) -> Path | None:
    """The list of samples that were decoded only in part; None for a URL."""
    return None if "://" in store else Path(f"{store.rstrip('/')}.incomplete.txt")


def log_incomplete(store: str, notes: Iterable[str]) -> None:
    """Append a line for each note about a sample that was decoded only in part."""
    file = incomplete_file(store)
    if file:
        with named(file), file.open("a", encoding="utf-8", errors="backslashreplace") as log:
            log.writelines(f"{visible(note)}\n" for note in notes)


def delete_extraction_log(store: str) -> None:
    """Delete the files next to a store, which is about to be created anew."""
    for file in (log_file(store), incomplete_file(store)):
        if file:
            file.unlink(missing_ok=True)


def read_extraction_log(store: str) -> ExtractionLogEntry | None:
    """Time and memory required by all processes together; None if there is no log.

    Raises:
        MalformedFileError: a line was not written by `log_extraction`.
    """
    file = log_file(store)
    if file is None or not file.is_file():
        return None
    try:
        entries = [
            build(ExtractionLogEntry, value, place) for place, value in read_json_lines(file)
        ]
        return ExtractionLogEntry(
            encoded=sum(entry.encoded for entry in entries),
            seconds=sum(entry.seconds for entry in entries),
            memory=max(entry.memory for entry in entries),
            device=entries[-1].device,
            device_memory=max(entry.device_memory for entry in entries),
        )
    except (ValueError, IndexError) as error:  # IndexError: the file has no line
        raise MalformedFileError(
            f"{file} is not an extraction log ({error}): delete it, only reports need it"
        ) from error
