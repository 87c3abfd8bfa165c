"""Parts of the training examples lie within each other."""

from pathlib import Path

from bench.low_data import training_subset
from epalm.tasks.types import Example, Task


def numbered(split: str, root: Path) -> list[Example]:
    del root
    return [Example(f"{split}{n}", f"{n}", "what?", ("a",), ("a",)) for n in range(200)]


TASK = Task("numbers", "qa", "exact", ("train", "val"), numbered)


def keys(fraction: float, *, split: str = "train", drawn: int = 64, seed: int = 0) -> list[str]:
    part = training_subset(TASK, fraction, drawn=drawn, seed=seed)
    return [example.key for example in part.examples(split, Path())]


def test_a_smaller_subset_is_part_of_a_larger_one_and_is_repeated() -> None:
    few, more = keys(0.01), keys(0.1)
    assert len(few) == len(more) == 64
    assert len(set(few)) == 2
    assert len(set(more)) == 20
    assert set(few) < set(more)
    assert set(keys(0.1, seed=1)) != set(more)


def test_validation_examples_are_unchanged() -> None:
    assert keys(0.01, split="val") == [f"val{n}" for n in range(200)]
