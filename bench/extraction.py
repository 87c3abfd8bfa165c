"""How close does an extraction come to the speed of the bare encoder?

    OMP_NUM_THREADS=1 python -m bench.extraction

The reference runs the encoder on decoded images in memory, with the same batches and threads. The
decoding processes import neither this module nor torch; the time to start them is included.
"""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, Rounds, compare, interleave

MIN_RATIO = 0.95
"""Smallest acceptable ratio to the images per second of the bare encoder."""


def main(
    encoder: str = "vit-b16",
    precision: str = "bf16",
    number: Annotated[int, typer.Option(help="Number of images.", min=1)] = 64,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of *.jpg files; default: generated noise.")
    ] = None,
    batch_size: Annotated[list[int], typer.Option(min=1)] = [32],  # noqa: B006
    threads: Annotated[list[int], typer.Option(min=1)] = [1],  # noqa: B006
    workers: Annotated[list[int], typer.Option(min=0)] = [0, 1, 2],  # noqa: B006
    rounds: Rounds = 5,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Compare the extraction of images from files with the bare encoder."""
    from bench.support.encoding_variants import Bench, list_images, random_encoder, write_images

    with scratch(folder) as place:
        items = list_images(photos, number) if photos else write_images(place, number)
        model = random_encoder(encoder, place, precision)
        bench = Bench(model, items, place)
        groups = [
            bench.variants(size, cores, workers)
            for size, cores in itertools.product(batch_size, threads)
        ]
        samples = interleave({name: run for group in groups for name, run in group.items()}, rounds)
        lines: list[Line] = []
        for group in groups:
            reference, *whole = group
            lines += compare(
                {name: samples[name] for name in group},
                reference=reference,
                unit="images/s",
                targets=dict.fromkeys(whole, MIN_RATIO),
            )
    Result(f"Extraction, {encoder}, {precision}, {number} images", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
