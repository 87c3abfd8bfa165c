"""A dataset for `fast_encoder`: files that contain a number instead of an image."""

import json
from collections.abc import Callable
from pathlib import Path


def write_numbers(
    folder: Path, count: int, *, broken: int, number: Callable[[int], int] = int
) -> Path:
    """Write files and their manifest.

    Args:
        folder: an existing folder, which is returned.
        count: number of samples; their keys are the names "0.png", "1.png", ...
        broken: row of the sample that cannot be decoded.
        number: row -> number in the file; the row itself by default.
    """
    for row in range(count):
        (folder / f"{row}.png").write_text("no number" if row == broken else str(number(row)))
    lines = [{"id": str(row), "media": f"{row}.png", "answers": ["a"]} for row in range(count)]
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
