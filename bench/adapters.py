"""What does a second adapter on a loaded language model cost, against loading it once more?

    OMP_NUM_THREADS=1 python -m bench.adapters --run runs/a --run runs/b --lm models/smollm2-135m

Both runs are of one language model. A process loads the first one, then either adds the second
one's adapter and switches between them, or loads the second run as well. Memory is resident
memory after each step, without the libraries.
"""

import gc
import time
from collections.abc import Callable
from typing import Annotated, TypeAlias

import numpy as np
import typer

import epalm
from bench.support.peak_memory import peak_memory_of, resident_bytes
from bench.support.timed_rounds import JsonFile, Line, Result, Rounds, at_most

SWITCHES = 100

MEMORY_LIMIT = 0.1
"""Target: memory that the second adapter adds, relative to that of a second run."""

Figures: TypeAlias = dict[str, float]


def added(first: str, second: str, given: dict[str, str]) -> Figures:
    """Load a run, add the adapter of another one and switch between them."""
    before = _settled()
    model = epalm.load(first, **given)
    one = _settled()
    seconds = _cpu_seconds(lambda: model.load_adapter(second, "second"))
    two = _settled()
    (name, other) = model.adapter_names

    def switch() -> None:
        for _ in range(SWITCHES // 2):
            model.set_adapter(other)
            model.set_adapter(name)

    switching = _cpu_seconds(switch) / SWITCHES
    return {"one": one - before, "two": two - one, "load": seconds, "switch": switching}


def loaded_twice(first: str, second: str, given: dict[str, str]) -> Figures:
    """Load both runs, each with its own language model."""
    before = _settled()
    models = [epalm.load(first, **given)]
    one = _settled()
    seconds = _cpu_seconds(lambda: models.append(epalm.load(second, **given)))
    return {"one": one - before, "two": _settled() - one, "load": seconds}


def _settled() -> int:
    gc.collect()
    return resident_bytes()


def _cpu_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def main(
    runs: Annotated[list[str], typer.Option("--run", help="Folder of a run; give two.")],
    lm: Annotated[str, typer.Option(help="Language model; empty for where the runs say.")] = "",
    weights: Annotated[str, typer.Option(help="Weights of the encoder; empty: as recorded.")] = "",
    rounds: Rounds = 3,
    json: JsonFile = None,
) -> None:
    """Measure both ways in turn."""
    first, second = runs
    given = {name: text for name, text in (("lm", lm), ("weights", weights)) if text}
    results: dict[str, list[Figures]] = {"added": [], "loaded_twice": []}
    for _ in range(rounds):
        for entry, figures in results.items():
            answer = peak_memory_of(f"bench.adapters:{entry}", first, second, given).answer
            figures.append(answer)
    shared, separate = results.values()

    def median(figures: list[Figures], name: str) -> float:
        return float(np.median([each[name] for each in figures]))

    ratio = median(shared, "two") / median(separate, "two")
    lines = [
        Line("one run", median(shared, "one") / 1e6, "MB"),
        Line("adapter added to it", median(shared, "two") / 1e6, "MB"),
        Line("second run loaded", median(separate, "two") / 1e6, "MB"),
        at_most("memory of an adapter / of a run", ratio, "", limit=MEMORY_LIMIT),
        Line("adding an adapter", median(shared, "load"), "CPU s"),
        Line("loading a run", median(separate, "load"), "CPU s"),
        Line("switching", 1e3 * median(shared, "switch"), "CPU ms"),
    ]
    Result("A second adapter", lines).publish(json)


if __name__ == "__main__":
    typer.run(main)
