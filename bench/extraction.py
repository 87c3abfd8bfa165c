"""How much of the encoder's own speed is left when photos come from files and go to a store?

    OMP_NUM_THREADS=1 python -m bench.extraction

The reference runs the encoder over photos that are decoded already, same batches, same threads.
Decoding processes import neither this module nor torch; their start is measured with the rest.
"""

import itertools
from pathlib import Path
from typing import Annotated

import typer

from bench.support.scratch_stores import scratch
from bench.support.timed_rounds import Folder, JsonFile, Line, Result, Rounds, compare, interleave

LEAST_OF_BARE = 0.95
"""Part of the bare encoder's photos per second."""


def main(
    encoder: str = "vit-b16",
    precision: str = "bf16",
    number: Annotated[int, typer.Option(help="Photos per sample.", min=1)] = 64,
    photos: Annotated[Path | None, typer.Option(help="Folder of *.jpg; else noise.")] = None,
    batch_size: Annotated[list[int], typer.Option(min=1)] = [32],  # noqa: B006
    threads: Annotated[list[int], typer.Option(min=1)] = [1],  # noqa: B006
    workers: Annotated[list[int], typer.Option(min=0)] = [0, 1, 2],  # noqa: B006
    rounds: Rounds = 5,
    folder: Folder = None,
    json: JsonFile = None,
) -> None:
    """Encode photos end to end."""
    from bench.support.encoding_variants import Bench, found_photos, make_photos, random_encoder

    with scratch(folder) as place:
        items = found_photos(photos, number) if photos else make_photos(place, number)
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
                unit="photos/s",
                targets=dict.fromkeys(whole, LEAST_OF_BARE),
            )
    Result(f"Extraction, {encoder}, {precision}, {number} photos", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
