"""What making a store took: a log beside it, since its own bytes tell nothing of their making.

Each process that encoded something adds a line to `<store>.log.jsonl`, and to
`<store>.incomplete.txt` one for each medium of which a part is missing. Stores behind a URL have
neither.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from epalm.errors import MalformedFileError
from epalm.terminal import visible
from epalm.untrusted.checked_json import build, read_json_lines


@dataclass(frozen=True)
class ExtractionLogEntry:
    """What one process, or several together, spent on a store.

    Attributes:
        encoded: media.
        seconds: wall time; of several processes the sum.
        memory: bytes of main memory at most, decoding processes not counted; of several the most.
        device: that encoded, e.g. "cpu".
        device_memory: bytes on a GPU at most; 0 without one.
    """

    encoded: int
    seconds: float
    memory: int
    device: str
    device_memory: int = 0


def log_file(store: str) -> Path | None:
    """The log beside a store; None for a URL."""
    return None if "://" in store else Path(f"{store.rstrip('/')}.log.jsonl")


def log_extraction(store: str, work: ExtractionLogEntry) -> None:
    """Add a line, if anything was encoded."""
    file = log_file(store)
    if file and work.encoded:
        with file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(work)) + "\n")


def incomplete_file(store: str) -> Path | None:
    """The list of media of which a part is missing; None for a URL."""
    return None if "://" in store else Path(f"{store.rstrip('/')}.incomplete.txt")


def note_incomplete(store: str, notes: Iterable[str]) -> None:
    """Add a line for each note."""
    file = incomplete_file(store)
    if file:
        with file.open("a", encoding="utf-8", errors="backslashreplace") as listed:
            listed.writelines(f"{visible(note)}\n" for note in notes)


def forget_work(store: str) -> None:
    """Delete the log of a store that is made anew."""
    for file in (log_file(store), incomplete_file(store)):
        if file:
            file.unlink(missing_ok=True)


def read_work(store: str) -> ExtractionLogEntry | None:
    """What all processes spent together; None if there is no log.

    Raises:
        MalformedFileError: a line that `log_extraction` did not write.
    """
    file = log_file(store)
    if file is None or not file.is_file():
        return None
    try:
        found = [build(ExtractionLogEntry, value, place) for place, value in read_json_lines(file)]
        return ExtractionLogEntry(
            encoded=sum(one.encoded for one in found),
            seconds=sum(one.seconds for one in found),
            memory=max(one.memory for one in found),
            device=found[-1].device,
            device_memory=max(one.device_memory for one in found),
        )
    except (ValueError, IndexError) as error:  # the latter: it has no line
        raise MalformedFileError(
            f"{file} is no log of an extraction ({error}): delete it, it serves reports alone"
        ) from error
