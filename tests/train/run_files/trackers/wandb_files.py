"""Reading the file of an offline run of wandb, whose container is that of LevelDB's logs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK, CHUNK = 7, 32_768, 7
"""Bytes of the file's header, of a block, and of the header of a chunk in it."""

FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


def records(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """The records of a .wandb file."""
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    position, parts = HEADER, b""
    while position + CHUNK <= len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK:
            position += left
            continue
        size = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        parts += content[position + CHUNK : position + CHUNK + size]
        position += CHUNK + size
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def wait_until_ended(file: Path, seconds: float = 30) -> None:
    """Wait until wandb's own process, which writes the file, has written the end of the run."""
    end = time.monotonic() + seconds
    while not any(record.WhichOneof("record_type") == "exit" for record in records(file)):
        assert time.monotonic() < end, f"{file} has no record of the run's end"
        time.sleep(0.1)


def history(file: Path) -> list[dict[str, object]]:
    """The logged values of a run."""
    return [
        {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def run_ids(file: Path) -> set[str]:
    """The ids of the file's run records."""
    return {
        record.run.run_id for record in records(file) if record.WhichOneof("record_type") == "run"
    }
