"""What do the processes of a Ray cluster cost while encoders work?

    OMP_NUM_THREADS=1 python -m bench.engine_background

`epalm-extract --engine ray` starts a cluster and two encoders. For a minute, while the first one
encodes and the second one has nothing more to do, the CPU time of every process is taken: that of
the program, of Ray's own processes, and of the idle encoder, which only answers Ray. These run by
the clock and not by the image, so the figure also holds for a machine that is busy with other work.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import timm
import typer
from safetensors.torch import save_file

from bench.engines import ARCHITECTURE, COMMAND, ENCODER, OVERHEAD_LIMIT, write_dataset
from bench.support.encoding_variants import write_images
from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, at_most
from epalm.errors import ModelError

IMAGES = 512 + 88
"""A shard for the encoder that works, and a small one for the other."""

FILES = 30

TICKS = os.sysconf("SC_CLK_TCK")


def descendants(process: int) -> dict[int, tuple[str, float]]:
    """Process id -> name and CPU seconds of a process and of all that it has started."""
    found, parents = {}, {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        fields = rest.split()
        found[int(folder.name)] = (name, (int(fields[11]) + int(fields[12])) / TICKS)
        parents[int(folder.name)] = int(fields[1])
    wanted = {process}
    while more := {one for one, parent in parents.items() if parent in wanted} - wanted:
        wanted |= more
    return {one: found[one] for one in wanted if one in found}


def encoders(processes: Mapping[int, tuple[str, float]]) -> list[int]:
    """The encoder processes."""
    return [number for number, (name, _) in processes.items() if name.startswith("ray::ShardW")]


def wait_for_idle(running: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait until one encoder works and the other has nothing more to do."""
    before = descendants(running.pid)
    while running.poll() is None:
        time.sleep(seconds / 4)
        now = descendants(running.pid)
        spent = sorted(
            now[number][1] - before[number][1] for number in encoders(now) if number in before
        )
        if len(spent) == 2 and spent[0] < seconds / 40 and spent[1] > seconds / 40:
            return
        before = now
    raise ModelError("the extraction has ended before one of its encoders was idle")


def background(command: Sequence[str], seconds: float) -> tuple[float, float]:
    """CPU seconds per second of the program and Ray's processes, and of the idle encoder.

    Raises:
        ModelError: no encoder was idle while the other worked.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            wait_for_idle(running, seconds)
            before, started = descendants(running.pid), time.monotonic()
            time.sleep(seconds)
            after, passed = descendants(running.pid), time.monotonic() - started
            spent = {
                number: (after[number][1] - before[number][1]) / passed
                for number in after
                if number in before
            }
            busy, idle = sorted(encoders(after), key=lambda number: -spent[number])
            of_encoders = {*descendants(busy), *descendants(idle)}
        finally:
            running.terminate()
    rest = {number: rate for number, rate in spent.items() if number not in of_encoders}
    for number, rate in sorted({**rest, idle: spent[idle]}.items(), key=lambda one: -one[1]):
        sys.stderr.write(f"{after[number][0]}: {rate:.4f}\n")
    return sum(rest.values()), spent[idle]


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Time to measure.")] = 60.0,
    folder: Folder = None,
    json_file: JsonFile = None,
) -> None:
    """Run the extraction, and print the table."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's name
    with scratch(folder) as place:
        weights = place / "weights.safetensors"
        save_file(timm.create_model(ARCHITECTURE, num_classes=0).state_dict(), weights)
        (place / "files").mkdir()
        files = [item.path for item in write_images(place / "files", FILES)]
        dataset = write_dataset(place / "images", IMAGES, files)
        options = ["--encoder", ENCODER, "--weights", str(weights), "--quiet", "--device", "cpu"]
        options += ["--dataset", str(dataset), "--out", str(place / "store.zarr")]
        options += ["--workers", "1", "--engine", "ray", "--engine-workers", "2"]
        rest, idle = background([sys.executable, "-c", COMMAND, *options], seconds)
    lines = [
        Line("program and Ray's own processes", 1000 * rest, "ms/s"),
        Line("what Ray needs in an encoder", 1000 * idle, "ms/s"),
        at_most("part of two cores that encode", (rest + 2 * idle) / 2, "", limit=OVERHEAD_LIMIT),
    ]
    Result("Background of the Ray engine", lines).publish(json_file)


if __name__ == "__main__":
    typer.run(main)
